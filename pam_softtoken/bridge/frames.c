/* Frames between C and the Python side: see frames.h. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "frames.h"

void
begin_frame(struct frame *frame, enum frame_type type)
{
	frame->bytes[0] = PROTOCOL_VERSION;
	frame->bytes[1] = (unsigned char)type;
	frame->length = 2;
	frame->overflow = false;
}

void
append(struct frame *frame, const void *bytes, size_t length)
{
	if (length > sizeof(frame->bytes) - frame->length) {
		frame->overflow = true;
		return;
	}
	memcpy(frame->bytes + frame->length, bytes, length);
	frame->length += length;
}

void
append_field(struct frame *frame, const char *format, ...)
{
	size_t room = sizeof(frame->bytes) - frame->length;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf((char *)frame->bytes + frame->length, room, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= room)
		frame->overflow = true;
	else
		frame->length += (size_t)length + 1;
}

static int
remaining_ms(const struct timespec *deadline)
{
	struct timespec now;
	long long left;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	left = (deadline->tv_sec - now.tv_sec) * 1000LL + (deadline->tv_nsec - now.tv_nsec) / 1000000;
	return left > 0 ? (int)left : 0;
}

int
receive_frame(int socket, struct frame *frame, unsigned int timeout_s)
{
	struct timespec deadline;
	struct pollfd ready = { .fd = socket, .events = POLLIN };
	ssize_t length;
	int changed;

	(void)clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += timeout_s;
	do
		changed = poll(&ready, 1, remaining_ms(&deadline));
	while (changed < 0 && errno == EINTR);
	if (changed == 0)
		return ETIMEDOUT;
	if (changed < 0)
		return errno;
	/* With MSG_TRUNC recvmsg returns the message's own length, so that a larger one is noticed and refused. */
	length = recv(socket, frame->bytes, sizeof(frame->bytes), MSG_DONTWAIT | MSG_TRUNC);
	if (length < 0)
		return errno;
	if (length == 0)
		return EPIPE;
	if (length < 3 || (size_t)length > sizeof(frame->bytes) || frame->bytes[0] != PROTOCOL_VERSION)
		return EPROTO;
	frame->length = (size_t)length;
	return 0;
}

int
send_frame(int socket, const struct frame *frame)
{
	if (send(socket, frame->bytes, frame->length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)frame->length)
		return EPIPE;
	return 0;
}

const char *
frame_text(const struct frame *frame, size_t place, char text[MAX_FRAME_BYTES])
{
	size_t length = frame->length - place;

	memcpy(text, frame->bytes + place, length);
	text[length] = '\0';
	return memchr(text, '\0', length) == NULL ? text : NULL;
}
