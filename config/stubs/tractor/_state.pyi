from typing import Any

_runtime_vars: dict[str, Any]
_current_actor: Any
