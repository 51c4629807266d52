"""How long a call may wait for a task: each client has a time limit for calls, and announces it nowhere."""

from dataclasses import dataclass

LONGEST_WAIT_S = 45.0


@dataclass(frozen=True)
class WaitLimits:
    """How long calls of a client may wait, in seconds."""

    default_s: float
    """For get_task, when the call does not say."""
    longest_s: float = LONGEST_WAIT_S

    def apply(self, requested_s: float | None) -> float:
        """Return how long to wait when a call requests *requested_s*, None where it does not say."""
        return self.default_s if requested_s is None else min(requested_s, self.longest_s)


# Most clients give up after 60 s: Claude Desktop, and all that are built on the TypeScript SDK.
_MOST_CLIENTS = WaitLimits(default_s=25)
# The OpenAI Agents SDK gives up after 5 s unless it is configured otherwise.
_OPENAI_AGENTS = WaitLimits(default_s=3, longest_s=4)
# The Python SDK's default name, which the OpenAI Agents SDK uses too. A call that asks for a longer wait gets it.
_PYTHON_SDK = WaitLimits(default_s=3)


def wait_limits(client_name: str | None, *, setting_s: float | None) -> WaitLimits:
    """Return the limits for a client of that name; *setting_s* is the operator's default wait in seconds, if set."""
    if setting_s is not None:
        return WaitLimits(default_s=setting_s, longest_s=max(setting_s, LONGEST_WAIT_S))
    name = (client_name or "").lower()
    if "openai-agents" in name or "openai agents" in name:
        return _OPENAI_AGENTS
    return _PYTHON_SDK if name == "mcp" else _MOST_CLIENTS
