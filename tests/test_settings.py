import pytest

from piapi_mcp.errors import SettingsError
from piapi_mcp.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.api_key is None
    assert settings.base_url == "https://api.piapi.ai"


@pytest.mark.parametrize("unreplaced", ["", "  ", "${PIAPI_API_KEY}", "${user_config.api_key}"])
def test_a_placeholder_that_was_not_replaced_counts_as_unset(unreplaced: str) -> None:
    """Some clients pass such placeholders on literally."""
    assert Settings.from_env({"PIAPI_API_KEY": unreplaced}).api_key is None


def test_secrets_appear_in_no_repr_and_no_dump() -> None:
    settings = Settings.from_env({"PIAPI_API_KEY": " s3cr3t-key-1 ", "PIAPI_WEBHOOK_SECRET": "s3cr3t-2"})
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "s3cr3t-key-1"
    assert "s3cr3t" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_misspelt_setting_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    Settings.from_env({"PIAPI_MAX_COST": "1", "HOME": "/"})
    assert caplog.messages == [
        "PIAPI_MAX_COST is not a setting of piapi-mcp and is ignored. Did you mean PIAPI_MAX_COST_USD?"
    ]


def test_an_invalid_key_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"PIAPI_API_KEY": "my kéy"})
    assert str(caught.value) == (
        "PIAPI_API_KEY is not valid: it contains spaces or characters that no key contains. Copy it again, exactly as "
        "it is shown."
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        pytest.param(
            "PIAPI_SERVICE_MODE",
            "free",
            'PIAPI_SERVICE_MODE="free" is not valid. Allowed: public or private. Correct it, or unset it.',
            id="service-mode",
        ),
        pytest.param(
            "PIAPI_BASE_URL",
            "api.piapi.ai",
            'PIAPI_BASE_URL="api.piapi.ai" is not valid. Allowed: an http or https URL without credentials, such as '
            "https://api.piapi.ai. Correct it, or unset it.",
            id="base-url-without-scheme",
        ),
        pytest.param(
            "PIAPI_WEBHOOK_ENDPOINT",
            "ftp://example.com",
            'PIAPI_WEBHOOK_ENDPOINT="ftp://example.com" is not valid. Allowed: an http or https URL. '
            "Correct it, or unset it.",
            id="webhook-of-another-scheme",
        ),
        pytest.param(
            "PIAPI_OUTPUT_DIR",
            "results",
            'PIAPI_OUTPUT_DIR="results" is not valid. Allowed: the full path of a folder. Correct it, or unset it.',
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


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(Settings.from_env({"PIAPI_STATE_DIR": "~/piapi"}).state_folder) == "/home/ada/piapi"
