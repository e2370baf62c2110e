"""All peers, one after the other; those that train come last."""

from benchmarks.data import slices
from benchmarks.peers import art, captum, foolbox, loop, monai, nnunet
from benchmarks.timing import write_results

if __name__ == "__main__":
    with slices() as prepared:
        for title, peer in {
            "a loop": loop,
            "captum": captum,
            "MONAI": monai,
            "ART": art,
            "foolbox": foolbox,
        }.items():
            print(write_results(f"Peers: {title}, on {prepared.name}", peer.measure(prepared)))
        found, lines = nnunet.measure(prepared)
        print(write_results(f"Peers: nnU-Net, on {prepared.name}", found, lines))
