"""A compiled training learns what an uncompiled one does, and is evaluated as the same network."""

from pathlib import Path

import pytest
import torch

from lightning_module.module import SegmentationModule
from tests.lightning_module.toy import DiscData, make_trainer
from tests.tools import needs_compiler

pytestmark = pytest.mark.slow


def trained(folder: Path, *, compiled: bool) -> SegmentationModule:
    torch.manual_seed(0)
    module = SegmentationModule(loss="bce+dice", channels=(4, 8), compile=compiled)
    make_trainer(folder, max_epochs=2).fit(module, DiscData())
    return module


@pytest.mark.timeout(600)
@needs_compiler
def test_compiling_changes_training_by_rounding_and_evaluation_not_at_all(tmp_path: Path) -> None:
    plain, compiled = (trained(tmp_path, compiled=chosen) for chosen in (False, True))
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value, rtol=2e-2, atol=2e-3)
    image = torch.rand(16, 1, 32, 32)
    same = SegmentationModule(loss="bce+dice", channels=(4, 8))
    same.load_state_dict(compiled.state_dict())
    with torch.no_grad():
        assert torch.equal(compiled.eval()(image), same.eval()(image))
