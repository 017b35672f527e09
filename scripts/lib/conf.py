"""Write /etc/security/softtoken.conf from the option table. Every line is commented out and shows the default.

conf.py FILE
"""

from __future__ import annotations

import os
import sys
import textwrap

if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))

from pam_softtoken import option_table, option_values

HEAD = """\
# Options of pam_softtoken for all PAM services of this host; see softtoken.conf(5).
# An option in a PAM line wins over this file. A mistake here is logged, and every login through the module is then
# denied: try changes with "softtoken-enroll --check" while a root shell is open.
# Each line below is the default, unless it says otherwise; to change it, take the # away.
"""
TAKES = {
    "": "yes or no",
    "N": "a whole number",
    "TEXT": "1 to 128 visible characters, without quotes",
    "DURATION": f"0, or a number and s, m, h or d, up to {option_values.MAX_GRACE_S // (24 * 60 * 60)}d",
    "TEMPLATE": "an absolute path, or one that starts with %h/; one outside the home needs %u or %U",
    "FILE": "an absolute path",
    "USERS": "names of users, with one space between them",
    "DIRECTORY": "an absolute path",
    "ADDRESS": "etcd://HOST:PORT,HOST:PORT,.../REALM",
    "DATE": "a day, such as 2027-01-15",
}
"""What a value can be, by its placeholder."""
WIDTH = 118


def text() -> str:
    """Return the whole file."""
    return "\n".join([HEAD, *(_entry(option) for option in option_table.OPTIONS if not option.argument_only)])


def _entry(option: option_table.Option) -> str:
    value = {True: "yes", False: "no"}[option.default] if isinstance(option.default, bool) else option.default
    sentences = [option.meaning.replace("`", ""), f"Takes {TAKES[option.value]}."]
    if value == "":
        value = option.example
        sentences.append("An example; it is not set.")
    comment = textwrap.wrap(" ".join(sentences), WIDTH, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([*comment, f"#{option.name} = {value}", ""])


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(text())
