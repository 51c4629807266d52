"""The operator's settings, read from the environment once at startup."""

import logging
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from piapi_mcp.errors import SettingsError
from piapi_mcp.formatting import quote

_logger = logging.getLogger(__name__)

ServiceMode = Literal["public", "private"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_SECURE_URL = r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/])[^\s@?#]+$"


def _check_sendable(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError
    return secret


HeaderSecret = Annotated[SecretStr, AfterValidator(_check_sendable)]
"""A secret that can be sent in an HTTP header."""


def _split_at_commas(text: object) -> object:
    return [name.strip() for name in text.split(",") if name.strip()] if isinstance(text, str) else text


def _expand_full_path(path: Path) -> Path:
    try:
        full = path.expanduser()
    except RuntimeError as error:  # the home folder of a user that does not exist
        raise ValueError from error
    if not full.is_absolute():
        raise ValueError  # a relative path would depend on the folder in which the client starts the server
    return full


Folder = Annotated[Path, AfterValidator(_expand_full_path)]
"""The full path of a folder; `~` is expanded."""
NameList = Annotated[tuple[str, ...], BeforeValidator(_split_at_commas)]
"""Names separated by commas."""


class Settings(BaseModel):
    """All settings. Each field's alias is the name of its environment variable."""

    model_config = ConfigDict(
        frozen=True, populate_by_name=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    api_key: HeaderSecret | None = Field(default=None, alias="PIAPI_API_KEY")
    """PiAPI key that pays for the tasks. Without it the server starts, but each call fails and says what to set."""

    base_url: str = Field(
        default="https://api.piapi.ai",  # [D 2026-11] unified API schema
        alias="PIAPI_BASE_URL",
        pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
    )
    """Base URL of PiAPI."""

    service_mode: ServiceMode | None = Field(default=None, alias="PIAPI_SERVICE_MODE")
    """Midjourney account for calls that name none: `public` pays per task, `private` uses an account of your own."""

    webhook_endpoint: str | None = Field(default=None, alias="PIAPI_WEBHOOK_ENDPOINT", pattern=r"^https?://\S+$")
    """URL that PiAPI calls when a task ends, for calls that name none."""

    webhook_secret: HeaderSecret | None = Field(default=None, alias="PIAPI_WEBHOOK_SECRET")
    """Secret that PiAPI sends to the webhook, for calls that name no webhook of their own."""

    max_cost_usd: Decimal | None = Field(default=None, alias="PIAPI_MAX_COST_USD", ge=0)
    """Maximum price of one task, in US dollars."""

    midjourney_price_usd: Decimal | None = Field(default=None, alias="PIAPI_MIDJOURNEY_PRICE_USD", ge=0)
    """Price that a Midjourney upscale is assumed to have under your limits, in US dollars: PiAPI publishes none."""

    daily_budget_usd: Decimal | None = Field(default=None, alias="PIAPI_DAILY_BUDGET_USD", ge=0)
    """Maximum price of all tasks of a UTC day together, in US dollars."""

    state_dir: Folder | None = Field(default=None, alias="PIAPI_STATE_DIR")
    """Folder of the ledger. Default: the user's state folder on this system."""

    output_dir: Folder | None = Field(default=None, alias="PIAPI_OUTPUT_DIR")
    """Folder to save results in. Default: `piapi-mcp` in the user's downloads folder."""

    wait_seconds: float | None = Field(default=None, alias="PIAPI_WAIT_SECONDS", ge=0, le=600)
    """Seconds that get_task waits if a call does not say. Default: as long as the client allows, at most 25."""

    access_token: HeaderSecret | None = Field(default=None, alias="PIAPI_MCP_ACCESS_TOKEN")
    """Over HTTP: clients that send this bearer token may use the server's own PiAPI key."""

    oauth_issuer: str | None = Field(default=None, alias="PIAPI_MCP_OAUTH_ISSUER", pattern=_SECURE_URL)
    """Over HTTP: OAuth authorization server whose access tokens are accepted."""

    oauth_audience: str | None = Field(default=None, alias="PIAPI_MCP_OAUTH_AUDIENCE", pattern=_SECURE_URL)
    """Over HTTP: URL at which clients reach this server, such as https://mcp.example.com/mcp; tokens must name it."""

    allowed_hosts: NameList = Field(default=(), alias="PIAPI_MCP_ALLOWED_HOSTS")
    """Over HTTP: host names that clients use for this server, separated by commas; `name:*` for any port."""

    allowed_origins: NameList = Field(default=(), alias="PIAPI_MCP_ALLOWED_ORIGINS")
    """Over HTTP: origins of web pages that may call this server, such as https://app.example.com, comma-separated."""

    requests_per_second: float = Field(default=30, alias="PIAPI_MCP_REQUESTS_PER_SECOND", ge=0)
    """Over HTTP: requests that each key may send per second; 0 for no limit."""

    previews: bool = Field(default=True, alias="PIAPI_PREVIEWS")
    """Whether to show small images of finished results in the conversation."""

    allowed_dirs: str | None = Field(default=None, alias="PIAPI_ALLOWED_DIRS")
    """Folders whose files may be read, separated as in PATH. Default: the home folder without hidden folders."""

    @property
    def state_folder(self) -> Path:
        """Folder of the ledger; it may not exist yet."""
        if self.state_dir is not None:
            return self.state_dir
        import platformdirs

        return platformdirs.user_state_path("piapi-mcp", appauthor=False)

    @property
    def output_folder(self) -> Path:
        """Folder to save results in; it may not exist yet."""
        if self.output_dir is not None:
            return self.output_dir
        import platformdirs

        return platformdirs.user_downloads_path() / "piapi-mcp"

    def for_sandbox(self, base_url: str) -> Self:
        """Return these settings for the sandbox at *base_url*, which accepts any key that begins with `sandbox`."""
        return self.model_copy(update={"base_url": base_url, "api_key": SecretStr("sandbox-local")})

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from *environ*.

        Empty values and placeholders that a client did not replace (`${...}`) count as unset.

        Raises:
            SettingsError: If a value is not valid.
        """
        for unknown, hint in unknown_settings(environ).items():
            _logger.warning("%s is not a setting of piapi-mcp and is ignored.%s", unknown, hint)
        names = _variable_names()
        given = {name: environ[name].strip() for name in names if name in environ}
        try:
            return cls.model_validate({name: value for name, value in given.items() if not _is_unset(value)})
        except ValidationError as error:
            raise SettingsError(" ".join(_explain(problem["loc"][0], given) for problem in error.errors())) from None


def unknown_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the names in *environ* that look like settings but are not, each with the nearest setting as a hint."""
    names = _variable_names()
    found: dict[str, str] = {}
    for unknown in sorted(name for name in environ if name.startswith("PIAPI_") and name not in names):
        close = get_close_matches(unknown, names, n=1)
        found[unknown] = f" Did you mean {close[0]}?" if close else ""
    return found


def unfilled_settings(environ: Mapping[str, str]) -> list[str]:
    """Return the names of settings in *environ* that hold a placeholder that the client did not replace."""
    return [
        name
        for name in _variable_names()
        if environ.get(name, "").strip().startswith("${") and _is_unset(environ[name].strip())
    ]


def _variable_names() -> list[str]:
    return [field.alias for field in Settings.model_fields.values() if field.alias]


def _is_unset(value: str) -> bool:
    """Return whether *value* is empty or a placeholder such as `${user_config.api_key}` that was not replaced."""
    return not value or (value.startswith("${") and value.endswith("}"))


_SECRETS = ("PIAPI_API_KEY", "PIAPI_WEBHOOK_SECRET", "PIAPI_MCP_ACCESS_TOKEN")
_ALLOWED = {
    "PIAPI_BASE_URL": "an http or https URL without credentials, such as https://api.piapi.ai",
    "PIAPI_SERVICE_MODE": "public or private",
    "PIAPI_PREVIEWS": "true or false",
    "PIAPI_MAX_COST_USD": "a number of US dollars, such as 0.50",
    "PIAPI_DAILY_BUDGET_USD": "a number of US dollars, such as 5",
    "PIAPI_MIDJOURNEY_PRICE_USD": "a number of US dollars, such as 0.02",
    "PIAPI_WEBHOOK_ENDPOINT": "an http or https URL",
    "PIAPI_STATE_DIR": "the full path of a folder",
    "PIAPI_OUTPUT_DIR": "the full path of a folder",
    "PIAPI_WAIT_SECONDS": "a number of seconds from 0 to 600",
    "PIAPI_MCP_OAUTH_ISSUER": "an https URL",
    "PIAPI_MCP_OAUTH_AUDIENCE": "an https URL",
    "PIAPI_MCP_REQUESTS_PER_SECOND": "a number, 0 for no limit",
}


def _explain(name: object, given: Mapping[str, str]) -> str:
    if name in _SECRETS:
        return (
            f"{name} is not valid: it contains spaces or characters that no key contains. Copy it again, exactly as it "
            "is shown."
        )
    value = quote(given[str(name)])
    return f"{name}={value} is not valid. Allowed: {_ALLOWED[str(name)]}. Correct it, or unset it."
