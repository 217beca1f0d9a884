"""Hosts by name, in a TOML file: how to reach each, and where things lie there.

    [vps]
    address = "203.0.113.7"
    user = "root"
    known_hosts = "~/.ssh/known_hosts"

Whatever a host does not say is as `quantum host init` sets it up. ``local`` needs no entry.
"""

import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from quantum_trader.core.errors import ConfigError
from quantum_trader.release.host import Host, LocalHost, SshAddress, SshHost, checked_path
from quantum_trader.settings import Strict

LOCAL = "local"
UNIT = "quantum-ai-engine.service"

RemotePath = Annotated[PurePosixPath, AfterValidator(checked_path)]
Unit = Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9@._-]*\.service\z")]
User = Annotated[str, Field(pattern=r"\A([a-z_][a-z0-9_-]{0,31})?\z")]


class HostSettings(Strict):
    """One host.

    Attributes:
        address: Name or address for ssh, or ``local``.
        user: Who to be there; it must be allowed to write the env file and restart the unit.
        port: 0 for what ssh's configuration says.
        identity: Key file.
        known_hosts: File of known host keys.
        ssh_config: File of ssh's configuration.
        ssh: The ssh program, with words before it where it runs in another network.
        become: Words before every command, such as sudo -n.
        python: A Python of at least 3.11 on the host, for the agent.
        engine_python: The Python that the engine runs under; it appends to the ledger.
        checkout: Git checkout that the engine runs from; without one, installed files are compared.
        env_file: The engine's env file.
        models: Folder of artefacts.
        state: Folder of transactions, kept copies and the agent.
        owner: Who owns artefacts there; empty for whoever writes them.
        unit: The engine's unit.
        restart: Command instead of ``systemctl restart UNIT``.
        reload: Command instead of ``systemctl reload UNIT``; where only `restart` is given, there is none.
        active: Command instead of ``systemctl is-active --quiet UNIT``.
        ready_timeout_s: How long a restart may take until the engine is ready.
        settle_s: How long it must stay ready.
    """

    address: str = LOCAL
    user: User = ""
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    identity: Path | None = None
    known_hosts: Path | None = None
    ssh_config: Path | None = None
    ssh: tuple[str, ...] = ("ssh",)
    become: tuple[str, ...] = ()
    python: str = "python3"
    engine_python: str = "/opt/quantum/venv/bin/python"
    checkout: RemotePath | None = None
    env_file: RemotePath = PurePosixPath("/etc/quantum/ai-engine.env")
    models: RemotePath = PurePosixPath("/var/lib/quantum/models")
    state: RemotePath = PurePosixPath("/var/lib/quantum/deploy")
    owner: User = "qt"
    unit: Unit = UNIT
    restart: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    ready_timeout_s: Annotated[float, Field(gt=0, le=600)] = 90.0
    settle_s: Annotated[float, Field(ge=0, le=60)] = 1.0

    def restart_argv(self) -> list[str]:
        """What restarts the engine."""
        return list(self.restart) or ["systemctl", "restart", self.unit]

    def reload_argv(self) -> list[str]:
        """What makes the engine read its settings again; empty where nothing does."""
        if self.reload or self.restart:
            return list(self.reload)
        return ["systemctl", "reload", self.unit]

    def active_argv(self) -> list[str]:
        """What says by exit code 0 that the engine runs."""
        return list(self.active) or ["systemctl", "is-active", "--quiet", self.unit]

    def connect(self) -> Host:
        """The host.

        Raises:
            HostError: if its address is none.
        """
        if self.address == LOCAL:
            return LocalHost(self.python, self.become)
        files = (self.identity, self.known_hosts, self.ssh_config)
        identity, known_hosts, config = (None if path is None else path.expanduser() for path in files)
        address = SshAddress(self.address, self.user, self.port, identity, known_hosts, config, self.ssh or ("ssh",))
        return SshHost(address, self.python, self.become)


def load_host(name: str, path: Path | None) -> HostSettings:
    """The settings of a host.

    Args:
        name: Its name in the file, ``local``, or ``USER@ADDRESS`` for one with the usual layout.
        path: The TOML file; None where there is none.

    Raises:
        ConfigError: naming the key and the rule, or the host that is not there.
    """
    tables = {} if path is None else _read(path)
    if name in tables:
        try:
            return HostSettings.model_validate(tables[name])
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"hosts {path}: {name}.{where}: {first['msg']}") from error
    user, at, address = name.rpartition("@")
    if name == LOCAL or (at and user):
        return HostSettings(address=address, user=user)
    known = ", ".join([*tables, LOCAL])
    raise ConfigError(f"host {name!r}: not in {path or 'a file of hosts'}; known are {known}, or USER@ADDRESS")


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"hosts {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"hosts {path}: {error}") from error
