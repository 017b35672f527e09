/*
 * Frames between C and the Python side. A frame is one message on a SOCK_SEQPACKET socket: protocol version, type,
 * payload. pam_softtoken/bridge/wire.py has the same.
 */
#ifndef PAM_SOFTTOKEN_FRAMES_H
#define PAM_SOFTTOKEN_FRAMES_H

#include <stdbool.h>
#include <stddef.h>

#define PROTOCOL_VERSION 1
#ifndef MAX_FRAME_BYTES
#define MAX_FRAME_BYTES 4096
#endif
#define MAX_FRAMES 64 /* of one attempt */
#define MAX_ANSWER_BYTES 512 /* a longer answer could fill the socket and block the host */

enum frame_type {
	FRAME_START = 'S',
	FRAME_ACCOUNT = 'M',
	FRAME_ANSWER = 'A',
	FRAME_CONVERSE = 'C',
	FRAME_GET = 'G',
	FRAME_PUT = 'P',
	FRAME_LOG = 'L',
	FRAME_RESULT = 'R',
	FRAME_WAIT = 'W',
};

enum answer_status {
	ANSWER_GIVEN = '=',
	ANSWER_MISSING = '-',
	CONVERSATION_FAILED = '!',
};

struct frame {
	unsigned char bytes[MAX_FRAME_BYTES];
	size_t length;
	bool overflow; /* something did not fit */
};

void
begin_frame(struct frame *frame, enum frame_type type);

void
append(struct frame *frame, const void *bytes, size_t length);

/* Append a field. It ends with NUL, which no C string can hold. */
__attribute__((format(printf, 2, 3))) void
append_field(struct frame *frame, const char *format, ...);

/*
 * Wait for one whole frame. Only here does the Python side owe us something, so the clock runs only here. Returns 0, or
 * an errno value: ETIMEDOUT, EPIPE if the other end is closed, EPROTO for a frame of another form.
 */
int
receive_frame(int socket, struct frame *frame, unsigned int timeout_s);

/* Send a frame, without waiting. Returns 0 or EPIPE. */
int
send_frame(int socket, const struct frame *frame);

/* Return the frame's text from a place on. It is NULL if the text has a NUL, which would cut it short. */
const char *
frame_text(const struct frame *frame, size_t place, char text[MAX_FRAME_BYTES]);

#endif
