import pytest

from piapi_mcp.errors import SettingsError
from piapi_mcp.settings import Settings


def test_without_any_setting_the_defaults_apply() -> None:
    settings = Settings.from_env({})
    assert settings.api_key is None
    assert settings.base_url == "https://api.piapi.ai"


@pytest.mark.parametrize("placeholder", ["", "  ", "${PIAPI_API_KEY}", "${user_config.api_key}"])
def test_a_placeholder_that_was_not_filled_in_counts_as_unset(placeholder: str) -> None:
    """Clients pass such placeholders on literally."""
    assert Settings.from_env({"PIAPI_API_KEY": placeholder}).api_key is None


def test_the_key_shows_in_no_repr_and_no_dump() -> None:
    settings = Settings.from_env({"PIAPI_API_KEY": " s3cr3t-key-1 ", "PIAPI_WEBHOOK_SECRET": "s3cr3t-2"})
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "s3cr3t-key-1"
    assert "s3cr3t" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_misspelt_setting_is_logged_with_the_right_name(caplog: pytest.LogCaptureFixture) -> None:
    Settings.from_env({"PIAPI_MAX_COST": "1", "HOME": "/"})
    assert caplog.messages == [
        "PIAPI_MAX_COST is no setting of piapi-mcp and is ignored. Did you mean PIAPI_MAX_COST_USD?"
    ]


def test_a_key_with_impossible_characters_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"PIAPI_API_KEY": "my kéy"})
    assert str(caught.value) == (
        "PIAPI_API_KEY cannot be used: it holds spaces or characters that no key has. Copy it again, as it is shown."
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        pytest.param(
            "PIAPI_SERVICE_MODE",
            "free",
            'PIAPI_SERVICE_MODE="free" cannot be used. Allowed: public or private. Set it, or leave it out.',
            id="service-mode",
        ),
        pytest.param(
            "PIAPI_BASE_URL",
            "api.piapi.ai",
            'PIAPI_BASE_URL="api.piapi.ai" cannot be used. Allowed: an http or https URL without credentials, such as '
            "https://api.piapi.ai. Set it, or leave it out.",
            id="base-url-without-scheme",
        ),
        pytest.param(
            "PIAPI_WEBHOOK_ENDPOINT",
            "ftp://example.com",
            'PIAPI_WEBHOOK_ENDPOINT="ftp://example.com" cannot be used. Allowed: an http or https URL. '
            "Set it, or leave it out.",
            id="webhook-of-another-scheme",
        ),
        pytest.param(
            "PIAPI_OUTPUT_DIR",
            "results",
            'PIAPI_OUTPUT_DIR="results" cannot be used. Allowed: the full path of a folder. Set it, or leave it out.',
            id="relative-folder",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(name: str, value: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: value})
    assert str(caught.value) == text


@pytest.mark.parametrize("name", [field.alias for field in Settings.model_fields.values()])
def test_any_value_is_accepted_or_refused_with_the_name_of_its_setting(name: str) -> None:
    values = ["?", "-1", "nan", "~nobody-known/x", "é", "http://", ",", "\x00"]
    refusals = {value: refusal_of({name: value}) for value in values}
    assert [value for value, refusal in refusals.items() if refusal and not refusal.startswith(name)] == []


def refusal_of(environ: dict[str, str]) -> str | None:
    """Return why *environ* is refused; None when it is accepted."""
    try:
        Settings.from_env(environ)
    except SettingsError as error:
        return str(error)
    return None


def test_a_tilde_stands_for_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(Settings.from_env({"PIAPI_STATE_DIR": "~/piapi"}).state_folder) == "/home/ada/piapi"
