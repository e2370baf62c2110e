"""The YAML that would repeat a command is an artifact of its run."""

from pathlib import Path

import pytest
import yaml
from lightning.pytorch.cli import LightningCLI

from callbacks.save_config import SaveConfig
from tests.callbacks.toy import ToyModule, train_loader, val_loader
from tests.places import Place


class ToyWithData(ToyModule):
    """Brings its own loaders, so that a CLI needs no other data."""

    train_dataloader = staticmethod(train_loader)
    val_dataloader = staticmethod(val_loader)


def run(*arguments: str) -> None:
    LightningCLI(
        ToyWithData,
        args=[
            *arguments,
            "--seed_everything=0",
            "--trainer.accelerator=cpu",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            "--trainer.enable_checkpointing=false",
            "--trainer.num_sanity_val_steps=0",
        ],
        save_config_callback=SaveConfig,
        save_config_kwargs={"save_to_log_dir": False},
    )


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_the_run_holds_the_yaml_of_the_command(command: str, place: Place) -> None:
    logger = "--trainer.logger=tracking.logger.RunLogger"
    epochs = ["--trainer.max_epochs=1"]
    run(
        command,
        *epochs,
        logger,
        "--trainer.logger.init_args.experiment=trials",
        "--model.classes=1",
    )
    (run_id,) = place.run_ids()
    text = place.artifact(run_id, f"config/{command}.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    assert config["trainer"]["max_epochs"] == 1
    assert config["model"] == {"classes": 1}
    assert config["trainer"]["logger"]["init_args"]["experiment"] == "trials"


def test_without_a_run_nothing_is_written(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("fit", "--trainer.max_epochs=1", "--trainer.logger=false")
    assert place.run_ids() == []
    assert list(tmp_path.iterdir()) == []
