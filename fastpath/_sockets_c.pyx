"""Reading from and writing to many sockets at once, compiled; `_sockets_py` is the specification.

The interpreter's lock is released once for all of them, not once for each.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int descriptor, void *data, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        epoll_data_t data
    int epoll_wait(int epoll, epoll_event *events, int most, int milliseconds)

cdef enum:
    AT_ONCE = 64

MOST = AT_ONCE


def receive_each(epoll, bytearray scratch not None, Py_ssize_t size):
    """See `fastpath._sockets_py.receive_each`."""
    cdef epoll_event events[AT_ONCE]
    cdef ssize_t sizes[AT_ONCE]
    cdef char *room
    cdef Py_ssize_t length, at = 0
    cdef int descriptor, ready, done = 0, failure = 0, i
    # The view keeps the bytes where they are while the lock is released.
    cdef unsigned char[::1] view
    if not 0 < size <= len(scratch):
        raise ValueError("size is from 1 to the length of scratch")
    view = scratch
    room = <char *> &view[0]
    length = view.shape[0]
    descriptor = epoll.fileno()
    with nogil:
        ready = epoll_wait(descriptor, events, AT_ONCE, 0)
        if ready < 0:
            failure = errno
        while done < ready and length - at >= size:
            sizes[done] = recv(events[done].data.fd, room + at, size, MSG_DONTWAIT)
            if sizes[done] > 0:
                at += sizes[done]
            elif sizes[done] < 0 and errno != EAGAIN and errno != EINTR:
                sizes[done] = 0
            done += 1
    if failure and failure != EINTR:
        raise OSError(failure, "epoll_wait")
    found = []
    at = 0
    for i in range(done):
        if sizes[i] >= 0:
            found.append((events[i].data.fd, PyBytes_FromStringAndSize(room + at, sizes[i])))
            at += sizes[i]
    return found


def send_each(descriptors, messages):
    """See `fastpath._sockets_py.send_each`."""
    cdef int sockets[AT_ONCE]
    cdef const char *data[AT_ONCE]
    cdef ssize_t sizes[AT_ONCE]
    cdef Py_ssize_t count = len(descriptors), first, number, i
    cdef bytes message
    if count != len(messages):
        raise ValueError("as many messages as descriptors")
    # Tuples of their own: nobody can take a message away while the lock is released.
    descriptors, messages = tuple(descriptors), tuple(messages)
    taken = []
    for first in range(0, count, AT_ONCE):
        number = min(<Py_ssize_t> AT_ONCE, count - first)
        for i in range(number):
            message = messages[first + i]
            sockets[i] = descriptors[first + i]
            data[i] = PyBytes_AS_STRING(message)
            sizes[i] = PyBytes_GET_SIZE(message)
        with nogil:
            for i in range(number):
                sizes[i] = send(sockets[i], data[i], sizes[i], MSG_DONTWAIT | MSG_NOSIGNAL)
                if sizes[i] < 0:
                    sizes[i] = 0 if errno == EAGAIN or errno == EINTR else -1
        taken += [sizes[i] for i in range(number)]
    return taken
