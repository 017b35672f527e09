"""Import a whole file: sort its tokens by their users, check everything, and only then write. One entry that cannot be
used stops everything, or with --skip-unusable only itself. The message names its user and its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pam_softtoken.account import user_lookup
from pam_softtoken.account.location import Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.enroll.crew import Crew
from pam_softtoken.enroll.import_tokens import Takeover
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.errors import LookUpFailed, PathError, UnknownUser
from pam_softtoken.fleet.store import Place
from pam_softtoken.interchange.record import Harvest, Imported, LeftOut
from pam_softtoken.program_errors import EnrolmentFailed, ImportFailed
from pam_softtoken.ui import progress, terminal

SKIP = "--skip-unusable"


class Sorted(NamedTuple):
    """The content of a file, by the users of this host.

    Args:
        tokens: for each account, in the order of the file.
        unusable: the entries that cannot be used.
    """

    tokens: dict[Account, list[Imported]]
    unusable: list[LeftOut]

    @property
    def is_for_one(self) -> bool:
        """Return whether all entries are one user's, who may be there to see what is shown."""
        users = {account.name for account in self.tokens} | {bad.user for bad in self.unusable if bad.user}
        return len(users) == 1


def by_user(harvest: Harvest, own: Account, *, only: bool, may_others: bool) -> Sorted:
    """Return the tokens by the user that gets them.

    Args:
        harvest: the content of the file.
        own: the account that the program runs for. It gets the tokens for which the file names no user.
        only: leave out the entries of other users.
        may_others: also import the tokens of other users.

    Raises:
        EnrolmentFailed: there is no entry for the user, or an entry is another user's and only root may import it.
    """
    known: dict[str, Account | str] = {"": own}  # each name is looked up once: that may take long
    tokens: dict[str, tuple[Account, list[Imported]]] = {}
    unusable: list[LeftOut] = []
    are_others = False
    for each in harvest.found:
        account = _known(each.user, known)
        is_own = isinstance(account, Account) and account.name == own.name
        if only and not is_own:
            continue
        are_others = are_others or not is_own
        if isinstance(account, Account):
            tokens.setdefault(account.name, (account, []))[1].append(each)
        else:
            unusable.append(LeftOut(each.place, each.user, account))
    for bad in harvest.unusable:
        account = _known(bad.user, known)
        if not only or not bad.user or (isinstance(account, Account) and account.name == own.name):
            unusable.append(bad)
    if not tokens and not unusable:
        raise EnrolmentFailed(
            f"there is no token of {own.name} in the file",
            hint=f"{PROGRAM} --import FILE --dry-run shows those there are",
        )
    if are_others and not may_others:
        raise EnrolmentFailed("only root can take over the tokens of others", hint=f"--user {own.name} takes your own")
    return Sorted(dict(tokens.values()), unusable)


def _known(user: str, known: dict[str, Account | str]) -> Account | str:
    """Return the account of a user, or why there is none."""
    if user not in known:
        try:
            known[user] = user_lookup.account_of_name(user)
        except UnknownUser:
            known[user] = "there is no such user on this host"
        except LookUpFailed as error:
            known[user] = str(error)
    return known[user]


class Import:
    """Imports a file.

    Args:
        path: what messages call it.
        takeovers: what each user gets.
        unusable: the entries that are known to be unusable.
        screen: the output.
        explained: returns what helps with a user's files.
        skipping: leave out entries that cannot be used.
    """

    def __init__(
        self,
        path: str,
        takeovers: Iterable[Takeover],
        unusable: list[LeftOut],
        *,
        screen: terminal.Terminal,
        explained: Callable[[PathError, Location | Place], str],
        skipping: bool,
    ) -> None:
        self._path = path
        self._takeovers = list(takeovers)
        self._unusable = unusable
        self._screen = screen
        self._explained = explained
        self._skipping = skipping
        self._told = 0

    def carry_out(self, *, dry_run: bool) -> str:
        """Check everything, and write only then.

        Returns:
            What was done, as text for the user.

        Raises:
            EnrolmentFailed, ImportFailed: nothing was imported, or not all of it. The message says which.
        """
        with self._progress("checking") as advance:
            usable = []
            for each in self._takeovers:
                terminal.checkpoint()
                self._look(each)
                if not each.is_empty:
                    usable.append(each)
                advance()
        self._takeovers = usable
        if self._unusable and not (self._skipping and usable):
            raise self._refusal()
        self._list_left_out()
        if dry_run:
            for each in usable:
                each.describe()
            self._count_left_out()
            return "Nothing was changed."
        done = self._write()
        self._list_left_out()
        self._count_left_out()
        return next(iter(done.values())) if len(done) == 1 else f"Done. {len(done)} users are enrolled."

    def _progress(self, what: str) -> progress.Progress:
        return progress.shown(len(self._takeovers), what)

    def _look(self, each: Takeover) -> None:
        is_alone = len(self._takeovers) == 1 and not self._unusable and not self._skipping
        try:
            self._unusable += each.look()
        except PathError as error:
            if is_alone:
                raise
            self._unusable += each.left_out(str(error), hint=self._explained(error, each.location))
            each.drop()
        except EnrolmentFailed as error:
            if is_alone:
                raise
            self._unusable += each.left_out(error.message, hint=error.hint)
            each.drop()

    def _refusal(self) -> ImportFailed:
        hint = next((each.hint for each in self._unusable if each.hint), "correct these entries")
        if self._takeovers and not self._skipping:
            hint += f"; {SKIP} takes the others"
        return ImportFailed(self._path, tuple(each.text for each in self._unusable), hint=hint)

    def _list_left_out(self) -> None:
        for each in self._unusable[self._told :]:
            self._screen.tell(f"Left out: {terminal.visible(each.text)}.")
        self._told = len(self._unusable)

    def _count_left_out(self) -> None:
        if self._unusable:
            count = len(self._unusable)
            self._screen.tell("1 entry was left out." if count == 1 else f"{count} entries were left out.")

    def _write(self) -> dict[int, str]:
        """Write the tokens of all users, and return what was done for each."""
        done: dict[int, str] = {}
        failed: dict[int, BaseException] = {}
        shown = 0
        with Crew(len(self._takeovers), self._work) as crew, self._progress("importing") as advance:
            try:
                for outcome in crew:
                    advance()
                    if outcome.error is None:
                        done[outcome.number] = outcome.done
                    else:
                        failed[outcome.number] = outcome.error
                    while shown in done or shown in failed:
                        if shown in done:
                            self._takeovers[shown].describe()
                        shown += 1
                    if outcome.error is not None and not self._may_go_on(outcome.error):
                        raise outcome.error
            except BaseException as error:
                crew.stop()
                done |= {late.number: late.done for late in crew if late.error is None}
                raise self._cut_short(done, failed, error) from None
        missing = [number for number in range(len(self._takeovers)) if number not in done and number not in failed]
        # The last one of a process that was killed may be done, although nobody has said so.
        done |= {number: "" for number in missing if self._takeovers[number].is_done()}
        missing = [number for number in missing if number not in done]
        if missing:
            lost = EnrolmentFailed("a process of the import was killed", hint="start it again")
            raise self._cut_short(done, {missing[0]: lost}, lost)
        for number in sorted(failed):
            fault = failed[number]
            hint = fault.hint if isinstance(fault, EnrolmentFailed) else ""
            self._unusable += self._takeovers[number].left_out(str(fault), hint=hint)
        if not done:
            raise self._refusal()
        return done

    def _may_go_on(self, error: BaseException) -> bool:
        return self._skipping and isinstance(error, EnrolmentFailed)

    def _work(self, number: int) -> str:
        takeover = self._takeovers[number]
        try:
            return takeover.carry_out()
        except PathError as error:
            takeover.withdraw()
            hint = self._explained(error, takeover.location)
            raise EnrolmentFailed(f"{error}; {error.aftermath}", hint=hint) from None
        except BaseException:
            takeover.withdraw()
            raise
        finally:
            takeover.close()

    def _cut_short(self, done: dict[int, str], failed: dict[int, BaseException], error: BaseException) -> BaseException:
        """Return the error of an import that stops in the middle, with the users that it has enrolled."""
        if len(self._takeovers) == 1 or (not done and isinstance(error, KeyboardInterrupt)):
            return error
        users = [self._takeovers[number].user for number in sorted(done)]
        if users:
            self._screen.tell(f"Before that, these were taken over: {terminal.visible(', '.join(users))}.")
        why, hint = ("interrupted", "") if isinstance(error, KeyboardInterrupt) else (str(error), "")
        if isinstance(error, EnrolmentFailed):
            why, hint = error.message, f"{error.hint}; then "
        number = next((number for number, its in failed.items() if its is error or str(its) == str(error)), None)
        named = f"{self._takeovers[number].user}: " if number is not None else ""
        rest = len(self._takeovers) - len(users)
        return EnrolmentFailed(
            f"{named}{why}; {len(users)} users are enrolled, {rest} are not",
            hint=f"{hint}start again with {SKIP}, which leaves out the tokens that are there",
        )
