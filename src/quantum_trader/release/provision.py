"""`quantum host init`: from a bare Debian host to one on which the engine decides.

- Debian's own packages, Python and Redis, are installed only where they are missing. Everything else comes with the
  bundle: the host needs no network for it.
- The program is a virtual environment for each release, in a folder named by its digest, and a link to the one in use.
- The stream server is a unit, a port and a folder of our own. Its one user may touch `quantum:*` and nothing else. The
  password is made on the host, never leaves it and is never printed: the server has its digest, the env file (root, and
  the engine's group) has it in the URL.
- Models, ledger and env file are made once, from the first artefacts, and never touched again: later ones come by
  `quantum deploy`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from quantum_trader.models.artefact import Artefact
from quantum_trader.release.bundle import Bundle
from quantum_trader.release.host import FileStat, Host
from quantum_trader.release.host_settings import HostSettings
from quantum_trader.release.provision_programs import ACL, DIGESTS, ENTER
from quantum_trader.release.steps import Step

OPT = PurePosixPath("/opt/quantum")
VENV = OPT / "venv"
ETC = PurePosixPath("/etc/quantum")
LIB = PurePosixPath("/var/lib/quantum")
SYSTEMD = PurePosixPath("/etc/systemd/system")
COMMAND = PurePosixPath("/usr/local/bin/quantum")
LEDGER = LIB / "ledger.jsonl"
USERS = ETC / "redis-users.acl"

REDIS = "quantum-redis.service"
SETTINGS_FILE, MEND_FILE = "redis.conf", "mend-log"
ENABLED = (REDIS, "quantum-ai-engine.service", "quantum-archive.service", "quantum-watch.timer")
NEEDED = frozenset({*ENABLED, "quantum-watch.service", SETTINGS_FILE, MEND_FILE})

URL = "redis://engine:{}@127.0.0.1:6390/0"
USER = "qt"

_INSTALL_S = 600.0
_START_S = 180.0


class Provision:
    """The steps for one host.

    Args:
        host: Reached, as root.
        settings: Where things lie there.
        bundle: What is brought.
        artefacts: First artefacts by model; may be empty where the host has its env file.
        shadows: Models that start in shadow.
    """

    def __init__(
        self,
        host: Host,
        settings: HostSettings,
        bundle: Bundle,
        artefacts: Mapping[str, Artefact],
        shadows: Sequence[str],
    ) -> None:
        self._host, self._settings, self._bundle = host, settings, bundle
        self._artefacts, self._shadows = artefacts, shadows
        self._release = OPT / "releases" / bundle.release
        self._wheels = OPT / "bundles" / bundle.release

    def steps(self) -> list[Step]:
        """Everything, in order."""
        return [
            self._packages(),
            self._user(),
            *self._folders(),
            *self._program(),
            *self._files(),
            *self._first_models(),
            self._secret(),
            *self._running(),
        ]

    @property
    def initialised(self) -> bool:
        """Whether the host has its env file: then it needs no first artefacts."""
        return self._host.exists(self._settings.env_file)

    def _packages(self) -> Step:
        probe = ["python3", "-I", "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]
        redis = PurePosixPath("/usr/bin/redis-server")

        def make() -> None:
            apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
            self._host.run([*apt, "update"], timeout_s=_INSTALL_S)
            words = ["install", "-y", "--no-install-recommends", "python3-venv", "redis-server"]
            self._host.run([*apt, *words], timeout_s=_INSTALL_S)

        what = "packages python3-venv (Python 3.11 or later) and redis-server"
        return Step(what, lambda: self._succeeds(probe) and self._host.exists(redis), make)

    def _user(self) -> Step:
        words = ["useradd", "--system", "--user-group", "--home-dir", str(LIB), "--shell", "/usr/sbin/nologin", USER]
        return Step(
            f"user {USER}, without a shell", lambda: self._succeeds(["getent", "passwd", USER]), self._does(words)
        )

    def _folders(self) -> list[Step]:
        return [
            self._folder(OPT, 0o755),
            self._folder(OPT / "bin", 0o755),
            self._folder(OPT / "bundles", 0o755),
            self._folder(OPT / "releases", 0o755),
            self._folder(ETC, 0o755),
            self._folder(LIB, 0o750, group=USER),
            self._folder(self._settings.models, 0o755),
            self._folder(self._settings.state, 0o700),
            self._folder(LIB / "archive", 0o750, owner=USER, group=USER),
        ]

    def _folder(self, path: PurePosixPath, mode: int, owner: str = "root", group: str = "root") -> Step:
        words = ["install", "-d", "-m", f"{mode:o}", "-o", owner, "-g", group, str(path)]
        wanted = ("folder", mode, owner, group)
        return Step(
            f"folder {path} {mode:o} {owner}:{group}",
            lambda: _kind_and_rights(self._host.stat(path)) == wanted,
            self._does(words),
        )

    def _program(self) -> list[Step]:
        return [
            Step(f"{len(self._bundle.wheels)} wheels in {self._wheels}", self._has_wheels, self._bring_wheels),
            Step(f"program in {self._release}", lambda: self._host.exists(self._release / ".complete"), self._install),
            self._link(VENV, self._release),
            self._link(COMMAND, VENV / "bin" / "quantum"),
        ]

    def _has_wheels(self) -> bool:
        return self._digests(self._wheels) == self._bundle.wheels

    def _bring_wheels(self) -> None:
        self._host.run(["install", "-d", "-m", "755", str(self._wheels)])
        there = self._digests(self._wheels)
        for name, digest in self._bundle.wheels.items():
            if there.get(name) != digest:
                self._host.put(self._bundle.wheel(name), self._wheels / name, 0o644)
        for name in sorted(set(there) - set(self._bundle.wheels)):
            self._host.run(["rm", "--", str(self._wheels / name)])

    def _install(self) -> None:
        # Half a release of a run that was cut off is not to be trusted.
        self._host.run(["rm", "-rf", "--", str(self._release)], timeout_s=_INSTALL_S)
        self._host.run(["python3", "-m", "venv", str(self._release)], timeout_s=_INSTALL_S)
        pip = [str(self._release / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "install"]
        source = ["--no-index", "--find-links", str(self._wheels), "--quiet"]
        self._host.run([*pip, *source, "quantum-trader[analysis,release,alerts]"], timeout_s=_INSTALL_S)
        self._host.put(b"", self._release / ".complete", 0o644)

    def _link(self, path: PurePosixPath, target: PurePosixPath) -> Step:
        draft = path.with_name(f".{path.name}.draft")

        def holds() -> bool:
            return self._host.run(["readlink", str(path)], check=False).out.decode().strip() == str(target)

        def make() -> None:
            self._host.run(["ln", "-sfn", str(target), str(draft)])
            self._host.run(["mv", "-T", "--", str(draft), str(path)])

        return Step(f"link {path} to {target}", holds, make)

    def _files(self) -> list[Step]:
        units = {name: text for name, text in self._bundle.units.items() if name.startswith("quantum-")}
        return [
            self._file(OPT / "bin" / MEND_FILE, self._bundle.units[MEND_FILE], 0o755),
            self._file(ETC / SETTINGS_FILE, self._bundle.units[SETTINGS_FILE], 0o644),
            *(self._file(SYSTEMD / name, text, 0o644) for name, text in units.items()),
            Step("units as the service manager knows them", lambda: self._is_loaded(tuple(units)), self._reload),
        ]

    def _file(self, path: PurePosixPath, content: bytes, mode: int) -> Step:
        def holds() -> bool:
            found = _kind_and_rights(self._host.stat(path))
            return found == ("file", mode, "root", "root") and self._host.read(path) == content

        return Step(f"file {path}", holds, lambda: _nothing(self._host.put(content, path, mode, "root")))

    def _is_loaded(self, units: Sequence[str]) -> bool:
        said = self._host.run(["systemctl", "show", "--property=LoadState,NeedDaemonReload", *units]).out.decode()
        blocks = [set(block.split("\n")) for block in said.strip().split("\n\n")]
        return all(block == {"LoadState=loaded", "NeedDaemonReload=no"} for block in blocks)

    def _reload(self) -> None:
        self._host.run(["systemctl", "daemon-reload"])

    def _first_models(self) -> list[Step]:
        env, group = self._settings.env_file, USER
        if self.initialised:
            made = [Step(f"env file {env}, which later deployments change", lambda: True, lambda: None)]
        else:
            made = [*(self._artefact(each) for each in self._artefacts.values()), self._first_grants()]
        return [*made, self._readable(env, group), self._readable(LEDGER, group)]

    def _artefact(self, artefact: Artefact) -> Step:
        target = self._settings.models / artefact.folder.name
        files = {path.name: path for path in sorted(artefact.folder.iterdir())}
        digests = {name: _sha256(path) for name, path in files.items()}

        def make() -> None:
            owner = self._settings.owner
            self._host.run(["install", "-d", "-m", "755", "-o", owner, "-g", owner, str(target)])
            for name, path in files.items():
                self._host.put(path, target / name, 0o644, owner)

        return Step(f"artefact {target} {artefact.digest[:16]}", lambda: self._digests(target) == digests, make)

    def _first_grants(self) -> Step:
        env = self._settings.env_file
        shadows = [word for model in self._shadows for word in ("--shadow", model)]
        places = ["--models", str(self._settings.models), "--ledger", str(LEDGER), "--env-file", str(env)]

        def make() -> None:
            # Grants of a run that was cut off before the env file stood: nothing ran by them yet.
            self._host.run(["rm", "-f", "--", str(LEDGER)])
            self._host.run([str(VENV / "bin" / "quantum"), "init", *places, *shadows])

        what = f"first grants in {LEDGER}, roles in {env}"
        return Step(what, lambda: self._host.exists(env) and self._host.exists(LEDGER), make)

    def _readable(self, path: PurePosixPath, group: str) -> Step:
        def make() -> None:
            self._host.run(["chown", f"root:{group}", str(path)])
            self._host.run(["chmod", "640", str(path)])

        wanted = ("file", 0o640, "root", group)
        return Step(f"file {path} 640 root:{group}", lambda: _kind_and_rights(self._host.stat(path)) == wanted, make)

    def _secret(self) -> Step:
        words = [str(self._settings.env_file), str(USERS), URL, ACL]

        def make() -> None:
            self._host.run(["python3", "-I", "-c", ENTER, "make", *words])
            # A running server reads its users at its start only; the engine waits for it.
            self._host.run(["systemctl", "try-restart", REDIS], timeout_s=_START_S)

        return Step(
            f"user of the stream server, its password in {self._settings.env_file} alone",
            lambda: self._succeeds(["python3", "-I", "-c", ENTER, "check", *words]),
            make,
        )

    def _running(self) -> list[Step]:
        return [
            *(self._unit(name, "is-enabled", "enable", "starts at boot") for name in ENABLED),
            *(self._unit(name, "is-active", "start", "is active") for name in ENABLED),
        ]

    def _unit(self, name: str, asks: str, verb: str, said: str) -> Step:
        return Step(
            f"{name} {said}",
            lambda: self._succeeds(["systemctl", asks, "--quiet", name]),
            lambda: _nothing(self._host.run(["systemctl", verb, name], timeout_s=_START_S)),
        )

    def _digests(self, folder: PurePosixPath) -> dict[str, str]:
        """SHA-256 of every file in a folder; none where there is no folder."""
        found: dict[str, str] = json.loads(
            self._host.run(["python3", "-I", "-c", DIGESTS, str(folder)], timeout_s=120.0).out
        )
        return found

    def _succeeds(self, argv: Sequence[str]) -> bool:
        return self._host.run(argv, check=False).code == 0

    def _does(self, argv: Sequence[str]) -> Callable[[], None]:
        return lambda: _nothing(self._host.run(argv))


def _kind_and_rights(found: FileStat | None) -> tuple[str, int, str, str] | None:
    return None if found is None else (found.kind, found.mode, found.owner, found.group)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _nothing(_: object) -> None:
    """A step's change has no answer."""
