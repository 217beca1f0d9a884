"""Which extra of this package brings a library that a verb misses."""

EXTRA_OF = {
    "apprise": "alerts",
    "jinja2": "analysis",
    "matplotlib": "analysis",
    "pyarrow": "analysis",
    "scipy": "analysis",
    "ccxt": "market",
    "cryptography": "release",
    "ray": "distributed",
    "lightgbm": "train",
    "onnx": "train",
    "onnxmltools": "train",
    "onnxscript": "train",
    "skl2onnx": "train",
    "sklearn": "train",
    "torch": "train",
    "xgboost": "train",
}
"""By the name under which it is imported."""


def hint(error: ModuleNotFoundError) -> str | None:
    """One line that says what to install; None where the missing module is none of an extra's."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRA_OF.get(module)
    return extra and f"{module} is not installed, and this needs it: pip install 'quantum-trader[{extra}]'"
