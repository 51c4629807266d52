"""How long a call waits for a task: clients give up on a call after a time of their own, and tell it to nobody."""

from dataclasses import dataclass

LONGEST_WAIT_S = 45.0


@dataclass(frozen=True)
class Waits:
    """What a client allows, in seconds."""

    usual_s: float
    """Of get_task, when a call does not say."""
    longest_s: float = LONGEST_WAIT_S

    def fitting(self, asked_s: float | None) -> float:
        """Return how long to wait when the call asks for *asked_s*; None when it does not say."""
        return self.usual_s if asked_s is None else min(asked_s, self.longest_s)


# Most clients give up after 60 s: Claude Desktop, all that are built on the TypeScript SDK.
_MOST = Waits(usual_s=25)
# Agents built with the OpenAI Agents SDK give up after 5 s unless told otherwise.
_HASTY = Waits(usual_s=3, longest_s=4)
# The Python SDK's own name, under which the OpenAI Agents SDK goes too: who asks for a long wait there, means it.
_UNNAMED = Waits(usual_s=3)


def waits_for(client_name: str | None, *, setting_s: float | None) -> Waits:
    """Return what the client of that name allows, unless the operator set the usual wait to *setting_s* seconds."""
    if setting_s is not None:
        return Waits(usual_s=setting_s, longest_s=max(setting_s, LONGEST_WAIT_S))
    name = (client_name or "").lower()
    if "openai-agents" in name or "openai agents" in name:
        return _HASTY
    return _UNNAMED if name == "mcp" else _MOST
