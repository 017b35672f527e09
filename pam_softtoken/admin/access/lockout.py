"""Check that `enable` locks out only users that the administrator has named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pam_softtoken.account import places, user_lookup
from pam_softtoken.admin.access import host_facts, proofs, ways_table
from pam_softtoken.admin.access.forecast import Forecast, is_sure
from pam_softtoken.admin.access.proofs import BEFORE, CODE, ENROLLED, HOMELESS, KEY, NEVER, UNUSABLE, Person
from pam_softtoken.admin.common.finding import named
from pam_softtoken.admin.sshd import server
from pam_softtoken.admin.sshd.match_blocks import YES, responsible
from pam_softtoken.errors import LookUpFailed, UnknownUser
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import consent, terminal

_HELP = {
    "softtoken-enroll --user NAME": "enrols one of them",
    "--enrol-later": "lets users in who have never enrolled",
    "--except GROUP": "does not ask the members of a group for a code",
}
_NO_HOME = f"no home directory yet for the token; store={places.SYSTEM_STORE} keeps tokens elsewhere"
_WHY_ROOT = "sshd takes no code from root unless PermitRootLogin is yes"


class Verdict(NamedTuple):
    """The effects of a change on users.

    Args:
        lost: users who get in today and would not any more, with the connections.
        in_doubt: users for whom the result cannot be known.
        runner: the user who runs this program.
        refusal: why the change is refused unless it is forced; empty if it is not refused.
    """

    lost: dict[str, list[str]]
    in_doubt: dict[str, list[str]]
    runner: str
    refusal: str


@dataclass(frozen=True, slots=True)
class LockOutOptions:
    """The options that say which users may lose their way in.

    Attributes:
        lock_out: their names, with commas between.
        force: lock out anybody, even the user who runs this.
        yes: ask nothing. That does not allow a lock-out.
    """

    lock_out: str | None
    force: bool
    yes: bool


def judge(found: Forecast) -> Verdict:
    """Return the effects of a change on users."""
    lost = ways_table.lost(found.claims)
    runner = host_facts.runner()
    service = found.plan.stack.service
    of_target = service in proofs.OF_TARGETS
    roots = [claim for claim in found.claims if (claim.person.uid == 0 if of_target else claim.person.root)]
    roots_today = {claim.person.name for claim in roots if claim.today}
    roots_then = {claim.person.name for claim in roots if claim.then}
    refusal = ""
    if runner in lost and not of_target:
        refusal = f'you are {runner}, and would not get in at "{service}" any more: {_why(found, runner)}'
    elif roots_today and not roots_then & roots_today:
        refusal = f'nobody who can become root would get in at "{service}" any more'
    return Verdict(lost, ways_table.in_doubt(found.claims), runner, refusal)


def show(screen: terminal.Terminal, found: Forecast, verdict: Verdict) -> None:
    """Show which users get in, which do not, and what helps."""
    service = found.plan.stack.service
    rows = ways_table.rows(found.claims)
    if not rows:
        screen.tell(f'Nobody gets in at "{service}" today.')
        return
    for line in ways_table.table(rows, service):
        screen.tell(terminal.visible(line))
    for what in found.unknowns():
        screen.tell(terminal.visible(f"Not known: {what}."))
    if verdict.lost:
        screen.tell("These get in today and would not then:")
    reasons: dict[str, list[str]] = {}
    for name, labels in verdict.lost.items():
        shown = f"{name} (from {', '.join(labels)})" if labels else name
        reasons.setdefault(_why(found, name), []).append(shown)
    for why, names in reasons.items():
        screen.tell(terminal.visible(f"  {named(names, 10)}: {why}"))
    if verdict.lost:
        screen.tell("What helps:")
        for what, words in _HELP.items():
            screen.tell(f"  {what:30}  {words}")
    if verdict.in_doubt:
        screen.tell(
            terminal.visible(f"These get in today; whether they would then is not known: {named(verdict.in_doubt, 10)}")
        )


def _why(found: Forecast, name: str) -> str:
    person = next(each for each in found.host.people if each.name == name)
    enrolled = person._replace(enrolments=tuple((store, ENROLLED) for store, _ in person.enrolments))
    states = {state for _, state in person.enrolments}
    if _gets_in(found, enrolled):
        if states & {NEVER, BEFORE}:
            return "not enrolled"
        if HOMELESS in states:
            return _NO_HOME
        return "the token files cannot be used; softtoken-admin status says why" if UNUSABLE in states else "no token"
    if found.then.sshd is not None:
        peer = found.then.peers[-1]
        line = responsible(found.then.sshd.directives, "permitrootlogin", person.names, peer)
        if person.uid == 0 and found.then.sshd.settings(person.names, peer).get("permitrootlogin") != "yes":
            return _WHY_ROOT + (f" ({line.place})" if line is not None else "")
        keyed = enrolled._replace(keys=tuple((place, YES) for place, _ in person.keys))
        if _gets_in(found, keyed):
            return f"no {KEY}, and a {KEY} would be needed"
    return "no way in would be left"


def _gets_in(found: Forecast, person: Person) -> bool:
    return any(is_sure(found.then.ways(person, peer)) for peer in found.then.peers)


def require_allowed(screen: terminal.Terminal, verdict: Verdict, options: LockOutOptions) -> None:
    """Check that the administrator accepts that users are locked out.

    Raises:
        NotConfirmed: they do not.
        AdministrationFailed: nobody can be asked, or the change is refused.
    """
    require_not_refused(verdict, force=options.force)
    meant = names_meant(options.lock_out)
    left = [name for name in (*verdict.lost, *verdict.in_doubt) if name not in meant]
    if not left or options.force:
        return
    if terminal.person_is_there() and not options.yes:
        consent.require_whole_word(screen, f"Lock out {named(left, 10)}?")
        return
    raise AdministrationFailed(
        f"this would lock out {named(left, 10)}; nothing was changed",
        hint=f"enrol them first, or confirm with: --lock-out {','.join(left[:20])}",
    )


def require_not_refused(verdict: Verdict, *, force: bool) -> None:
    """Check that neither the administrator nor the last way to root is locked out.

    Raises:
        AdministrationFailed: one of them would be.
    """
    if verdict.refusal and not force:
        hint = f"softtoken-enroll{' --user ' + verdict.runner if verdict.runner in verdict.lost else ''} first"
        raise AdministrationFailed(f"{verdict.refusal}; nothing was changed", hint=f"{hint}; --force goes on anyway")


def names_meant(given: str | None) -> set[str]:
    """Return the user names that were given to --lock-out.

    Raises:
        UsageError: there is no such user.
    """
    found = set()
    for name in filter(None, map(str.strip, (given or "").split(","))):
        try:
            found.add(user_lookup.account_of_name(name).name)
        except (UnknownUser, LookUpFailed):
            raise UsageError(f'no such user: "{name}"', hint="--lock-out takes names, separated by commas") from None
    return found


def require_exempt_as_they_are(found: Forecast, groups: Iterable[str]) -> None:
    """Check that the members of exempt groups get in as they do today.

    Raises:
        AdministrationFailed: a member would not.
    """
    exempt = set(groups)
    for claim in found.claims:
        if exempt & set(claim.person.names.groups) and claim.today != claim.then:
            raise AdministrationFailed(
                f"--except would not leave {claim.person.name} as today: {proofs.text_of(claim.today)} today, "
                f"{proofs.text_of(claim.then)} then",
                hint="where PAM asks for no password (--with publickey), exempt accounts can only use keys",
            )


def asked_names(found: Forecast) -> list[str]:
    """Return the enrolled users who would be asked for a code and get in; the runner first."""
    runner = host_facts.runner()
    names = dict.fromkeys(claim.person.name for claim in found.claims if any(CODE in given for given, _ in claim.then))
    return sorted(names, key=lambda name: name != runner)


def remarks(found: Forecast) -> Iterable[str]:
    """Return lines that name the ways in without a code."""
    if found.plan.stack.service == server.SERVICE and found.plan.settings.get("AuthenticationMethods") is None:
        keyed = [claim.person.name for claim in found.claims if any(way == frozenset({KEY}) for way, _ in claim.then)]
        if keyed:
            who = named(dict.fromkeys(keyed), 4)
            yield f"Public-key logins skip the code: {who}. To require key and code, use --with publickey."
