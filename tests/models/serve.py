"""Serve artefacts in a process in which no training or analysis library can be imported.

python serve.py MODELS INPUTS.npz NAME...: prints each model's answers to the array `row` or `sequence` in hexadecimal.
"""

import sys
from importlib.abc import MetaPathFinder

UNWANTED = frozenset(
    [
        "ccxt",
        "lightgbm",
        "matplotlib",
        "onnx",
        "onnxmltools",
        "onnxscript",
        "pandas",
        "polars",
        "pyarrow",
        "scipy",
        "skl2onnx",
        "sklearn",
        "torch",
        "xgboost",
    ]
)


class Refuse(MetaPathFinder):
    """Finds none of them, as on a machine with the serving install only."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in UNWANTED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main(folder: str, inputs_file: str, *names: str) -> None:
    sys.meta_path.insert(0, Refuse())
    from pathlib import Path

    import numpy as np

    from quantum_trader.models.inference import OnnxModel
    from quantum_trader.models.store import newest

    inputs = np.load(inputs_file)
    for name in names:
        model = OnnxModel(newest(Path(folder), name))
        model.warm_up()
        print(name, model.predict(inputs[model.uses]).tobytes().hex())
    loaded = UNWANTED & {name.partition(".")[0] for name in sys.modules}
    if loaded:
        sys.exit(f"loaded all the same: {sorted(loaded)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
