"""Debian's own servers in a tree that systemd has started, and what logs in there."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.account import Phone
from tests.support.booted_debian import BootedHost, Journal
from tests.support.fresh_debian import Resident
from tests.support.leak import keep_answer

ACCOUNT = "account required pam_permit.so\n"
CODE_ALONE = f"auth required pam_softtoken.so\n{ACCOUNT}"
ONE_FIELD = (
    "auth required pam_softtoken.so forward_pass\nauth required pam_unix.so use_first_pass\n"
    f"{ACCOUNT}session required pam_permit.so\n"
)
RADIUS = """
cd /etc/freeradius/3.0
ln -s ../mods-available/pam mods-enabled/pam
rm mods-enabled/eap sites-enabled/*
cat >sites-enabled/codes <<END
server codes {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = 1812
	}
	authorize {
		update control {
			&Auth-Type := pam
		}
	}
	authenticate {
		pam
	}
}
END
"""
SITE = """
<VirtualHost 127.0.0.1:8080>
DocumentRoot /var/www/html
<Location />
AuthType Basic
AuthName codes
AuthBasicProvider socache PAM
AuthnCacheProvideFor PAM
AuthPAMService apache2
Require valid-user
</Location>
</VirtualHost>
"""
DOVECOT = """
protocols = imap
listen = 127.0.0.1
ssl = no
"""
DOVECOT_2_3 = """
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
"""
DOVECOT_2_4 = """
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
mail_inbox_path =
"""
MAIL = """
import imaplib, sys
server = imaplib.IMAP4("127.0.0.1", 143)
try:
    server.login(*sys.argv[1:])
    print("in")
except imaplib.IMAP4.error:
    print("refused")
"""
BROWSER = """
import base64, http.client, sys
words = base64.b64encode(":".join(sys.argv[1:]).encode()).decode()
server = http.client.HTTPConnection("127.0.0.1", 8080)
server.request("GET", "/", headers={"Authorization": f"Basic {words}"})
print(server.getresponse().status)
"""


def freeradius(served: BootedHost, alice: Resident, phone: Phone, log: Journal) -> None:
    """Its user stands in `relay_for`."""
    served.set_service("radiusd", CODE_ALONE)
    served.debian.run("sh", "-euc", RADIUS)
    served.debian.run("systemctl", "restart", "freeradius")
    code = phone.hotp()

    def asks(code: str) -> str:
        keep_answer(code)
        words = ("radclient", "127.0.0.1:1812", "auth", "testing123")
        typed = f"User-Name={alice.name},User-Password={code}\n"
        return served.debian.try_to_run(*words, typed=typed).stdout

    assert "Access-Reject" in asks(code)
    served.set_conf("relay_for = freerad\n")
    assert "Access-Accept" in asks(code)
    assert "Access-Reject" in asks(code)
    assert log.reasons("relay/radiusd") == ["relay", "accepted", "replayed"]


def apache(served: BootedHost, alice: Resident, phone: Phone, log: Journal) -> None:
    """The same. A browser sends the code again with each page, and Apache remembers it."""
    served.set_conf("relay_for = www-data\n")
    served.set_service("apache2", CODE_ALONE)
    served.debian.write("/etc/apache2/sites-available/000-default.conf", SITE)
    served.debian.write("/etc/apache2/ports.conf", "Listen 127.0.0.1:8080\nServerName localhost\n")
    served.debian.run("a2enmod", "-q", "authnz_pam", "authn_socache", "socache_shmcb")
    served.debian.run("systemctl", "restart", "apache2")
    code = phone.hotp()

    def asks(code: str) -> str:
        keep_answer(code)
        return served.debian.run("python3", "-I", "-c", BROWSER, alice.name, code).strip()

    assert [asks(code), asks(code), asks("000000")] == ["200", "200", "401"]
    assert log.reasons("relay/apache2") == ["accepted"]
    served.debian.run("systemctl", "restart", "apache2")
    assert asks(code) == "401"
    assert log.reasons("relay/apache2") == ["accepted", "replayed"]


def dovecot(served: BootedHost, alice: Resident, phone: Phone, log: Journal) -> None:
    """Its worker asks as root, and takes password and code from one field."""
    _dovecot(served, alice, phone, log, "root")


def dovecot_as_another_user(served: BootedHost, alice: Resident, phone: Phone, log: Journal) -> None:
    """It could not check the password of somebody else."""
    _dovecot(served, alice, phone, log, "dovecot")


def _dovecot(served: BootedHost, alice: Resident, phone: Phone, log: Journal, worker: str) -> None:
    is_root = worker == "root"
    served.set_conf("" if is_root else f"relay_for = {worker}\n")
    served.set_service("dovecot", ONE_FIELD if is_root else CODE_ALONE)
    is_old = served.debian.run("dovecot", "--version").startswith("2.3.")
    settings = f"{DOVECOT}{DOVECOT_2_3 if is_old else DOVECOT_2_4}service auth-worker {{\n  user = {worker}\n}}\n"
    served.debian.write("/etc/dovecot/local.conf", settings)
    served.debian.run("systemctl", "restart", "dovecot")
    code = phone.hotp()
    answer = f"{alice.password if is_root else ''}{code}"
    keep_answer(answer)
    said = [served.debian.run("python3", "-I", "-c", MAIL, alice.name, answer).strip() for _ in range(2)]
    assert said == ["in", "refused"]
    assert log.reasons("dovecot" if is_root else "relay/dovecot") == ["accepted", "replayed"]
    served.debian.run("systemctl", "stop", "dovecot")


SERVERS: dict[Callable[[BootedHost, Resident, Phone, Journal], None], tuple[str, ...]] = {
    freeradius: ("freeradius", "freeradius-utils"),
    apache: ("apache2", "libapache2-mod-authnz-pam"),
    dovecot: ("dovecot-imapd",),
    dovecot_as_another_user: ("dovecot-imapd",),
}
"""What logs in at a server, and the server's packages. Those take long to install."""
