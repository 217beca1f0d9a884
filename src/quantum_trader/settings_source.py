"""Where an engine's settings come from, so that they can be read again while it runs.

The environment of a process never changes. A variable that said the same as the env file at the start is taken as
having come from that file (systemd's ``EnvironmentFile=`` beside ``--env-file``): when it is read again, the file
speaks for it. A variable that said something else overrides the file then as before.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from quantum_trader.settings import Settings, load_settings, read_env


class SettingsSource:
    """Settings that were read, and how.

    Args:
        config_files: TOML files.
        env_file: Env file, or None.
        environ: The environment.

    Raises:
        ConfigError: as `load_settings`.
    """

    def __init__(
        self, config_files: Sequence[Path] = (), env_file: Path | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._config_files, self._env_file = tuple(config_files), env_file
        in_file = {} if env_file is None else read_env(env_file)
        self._own = {name: value for name, value in environ.items() if in_file.get(name) != value}
        self.first: Settings = load_settings(self._config_files, env_file, environ)
        """The settings at the start."""

    def again(self) -> Settings:
        """The settings as the files are now.

        Raises:
            ConfigError: as `load_settings`.
        """
        return load_settings(self._config_files, self._env_file, self._own)
