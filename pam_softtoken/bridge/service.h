/* Ask the backend that root's systemd starts, where the host does not run as root. */
#ifndef PAM_SOFTTOKEN_SERVICE_H
#define PAM_SOFTTOKEN_SERVICE_H

/* pam_softtoken/account/places.py and debian/libpam-softtoken.softtoken-login.socket have the same. */
#define SERVICE_SOCKET "/run/softtoken/login.sock"

/*
 * Connect to softtoken-login.socket, and wait at most timeout_s seconds for its end. Returns 0, or an errno value:
 * ENOENT if there is no such socket, EPERM if it does not belong to root. Nothing is left open then.
 */
int
connect_to_service(int *connection, unsigned int timeout_s);

#endif
