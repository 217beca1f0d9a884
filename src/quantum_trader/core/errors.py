"""Errors a user can meet: each is one sentence that names the thing and the rule it broke."""


class QuantumError(Exception):
    """Base of every error that the command line prints as one line and answers with exit code 1."""


class ConfigError(QuantumError):
    """A setting, flag or file given by the user does not follow its rule."""


class BarError(QuantumError):
    """A bar breaks a rule.

    Attributes:
        symbol: Venue symbol, for example ``BTCUSDT``.
        ts_open: Open time of the bar in milliseconds since the epoch, UTC.
        rule: The broken rule, as a short phrase.
    """

    def __init__(self, symbol: str, ts_open: int, rule: str) -> None:
        self.symbol, self.ts_open, self.rule = symbol, ts_open, rule
        super().__init__(f"bar {symbol} {format_ms(ts_open)}: {rule}")


class FeatureError(QuantumError):
    """A window does not give finite features, so no model may see it."""


class ArtefactError(QuantumError):
    """A model artefact is missing, changed, foreign or does not behave as its manifest says."""


class CalibrationError(ArtefactError):
    """A calibration cannot be fitted, or its file is missing, changed, foreign or no monotone map."""


class LedgerError(QuantumError):
    """The release ledger is missing, malformed or contradicts itself."""


class ProofError(QuantumError):
    """A key, a signature or a proof pack does not hold, or evidence cannot be gathered."""


class WireError(QuantumError):
    """A stream entry does not follow the wire format."""


class BusError(QuantumError):
    """The stream server cannot be reached, or refused a write."""


class ClockError(QuantumError):
    """This machine's clock contradicts what was recorded."""


class HostError(QuantumError):
    """A host cannot be reached, refused a command, or is not as it must be."""


class ReleaseError(QuantumError):
    """A release or a way back breaks a rule, or ended on the host otherwise than planned."""


class TrainingError(QuantumError):
    """Training cannot give an artefact that is worth writing."""


def format_ms(ts_ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC, without a clock or time-zone data.

    >>> format_ms(1767321393250)
    '2026-01-02T02:36:33.250Z'
    """
    days, rest = divmod(int(ts_ms), 86_400_000)
    # Civil date from days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    days += 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    seconds, millis = divmod(rest, 1000)
    fraction = f".{millis:03d}" if millis else ""
    return f"{year:04d}-{month:02d}-{day:02d}T{hours:02d}:{minutes:02d}:{seconds:02d}{fraction}Z"
