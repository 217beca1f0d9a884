"""An environment that holds what `pip install quantum-trader` without extras brings, and nothing else.

Made offline: the packages that the project requires are looked up in this environment's metadata, all the way down,
and linked into a fresh virtual environment. `pip_install` makes the same by pip, which downloads.
"""

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = "quantum-trader"
_ROOT = Path(__file__).resolve().parent.parent
_BUILD_TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils", "distutils")


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        python: Its interpreter.
        sizes: Bytes by entry of its site-packages, what links point to included; pip and setuptools left out.
    """

    python: Path
    sizes: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of all packages."""
        return sum(self.sizes.values())


def this_environment() -> Environment:
    """The one that runs, with all extras."""
    return Environment(Path(sys.executable), {})


def linked(folder: Path) -> Environment:
    """Link the closure of the project's own requirements into a fresh environment below a folder."""
    venv.create(folder, with_pip=False, symlinks=True)
    packages = _site_packages(folder)
    for found in _closure(PROJECT).values():
        for name in {path.parts[0] for path in found.files or ()}:
            source, target = Path(str(found.locate_file(name))), packages / name
            if name not in ("..", "__pycache__") and not name.startswith("__editable__") and not target.exists():
                target.symlink_to(source)
    # An editable installation keeps the package itself elsewhere.
    if not (packages / "quantum_trader").exists():
        (packages / "quantum_trader").symlink_to(_ROOT / "src" / "quantum_trader")
    return Environment(folder / "bin" / "python", _sizes(packages))


def pip_install(folder: Path) -> Environment:
    """Install the project without extras by pip, with the pinned versions, into a fresh environment below a folder."""
    source = folder / "source"
    source.mkdir(parents=True)
    # A copy: building leaves files in the source folder.
    for name in ("pyproject.toml", "README.md", "constraints.txt"):
        shutil.copy2(_ROOT / name, source / name)
    shutil.copytree(_ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    target = folder / "venv"
    venv.create(target, with_pip=True)
    python = target / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--only-binary", ":all:"]
    limits = ["--constraint", str(source / "constraints.txt")]
    subprocess.run([*pip, *limits, "setuptools"], check=True)
    subprocess.run([*pip, *limits, "--no-build-isolation", str(source)], check=True)
    subprocess.run([str(python), "-c", "import quantum_trader.engine.service"], check=True, cwd=folder)
    return Environment(python, _sizes(_site_packages(target)))


def _closure(name: str) -> dict[str, Distribution]:
    """A distribution and all that it requires without extras, by name."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    while waiting:
        wanted, extras = waiting.pop()
        if wanted in found:
            continue
        try:
            found[wanted] = distribution(wanted)
        except PackageNotFoundError as error:
            raise RuntimeError(f"{wanted} is required but not installed here") from error
        for text in found[wanted].requires or ():
            required = Requirement(text)
            # `extra` is empty where none is asked for; a package may ask for one of another (redis[hiredis]).
            if required.marker is None or any(required.marker.evaluate({"extra": e}) for e in ("", *extras)):
                waiting.append((required.name.lower().replace("_", "-"), frozenset(required.extras)))
    return found


def _site_packages(environment: Path) -> Path:
    (found,) = (environment / "lib").glob("python*/site-packages")
    return found


def _sizes(packages: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for entry in packages.iterdir():
        if entry.name.startswith(_BUILD_TOOLS):
            continue
        # Resolved first, because a walk does not enter links.
        place = entry.resolve()
        files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        name = entry.name.removesuffix(".libs").split("-")[0]
        sizes[name] = sizes.get(name, 0) + sum(path.stat().st_size for path in files)
    return sizes
