"""The program that travels to a board, `edgecnn-device.pyz`: the verbs of `edgecnn.ondevice`, and what a host
far away needs besides. Stdlib only at import: it must be able to say that numpy is missing.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from typing import Any, Dict, List

EXIT_FAULT = 3


def main(arguments: List[str]) -> int:
    """`supervise SECONDS OUTPUT VERB...`, `survey`, `deployment ...`, `venv PACKAGE...`, or a verb of
    `edgecnn.ondevice`.
    """
    verb = arguments[0] if arguments else ""
    if verb == "supervise":
        from edgecnn.ondevice.supervise import supervise

        # The zip itself is what this Python was told to run.
        supervise([sys.executable, sys.argv[0], *arguments[3:]], float(arguments[1]), arguments[2])
        return 0
    if verb == "survey":
        from edgecnn.ondevice.survey import survey

        return _say(survey())
    if verb == "deployment":
        from edgecnn.ondevice.deployment import act

        return _say(act(arguments[1:]))
    if verb == "venv":
        from edgecnn.ondevice.venv import install

        return _say(install(arguments[1:]))
    if importlib.util.find_spec("numpy") is None:
        return _say(
            {
                "error": f"the Python {sys.executable} has no numpy",
                "fix": "edgecnn doctor --target T --fix installs it in ~/edgecnn/venv",
            }
        )
    # By name: the import contracts know no module called __main__.
    code: int = importlib.import_module("edgecnn.ondevice.__main__").main(arguments, limited=True)
    return code


def _say(answer: Dict[str, Any]) -> int:
    print(json.dumps(answer, allow_nan=False), flush=True)
    return EXIT_FAULT if "error" in answer else 0
