"""Accepting, reading and writing many sockets at once, compiled; `_sockets_py` is the specification.

The interpreter's lock is released once for all of them, not once for each.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.string cimport memcpy, strerror, strlen

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int descriptor, void *data, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int descriptor, sockaddr *peer, socklen_t *length, int flags)
    int shutdown(int descriptor, int how)
    int getsockopt(int descriptor, int level, int name, void *value, socklen_t *length)
    int AF_INET
    int AF_INET6
    int MSG_DONTWAIT
    int MSG_MORE
    int MSG_NOSIGNAL
    int SHUT_WR
    int SOCK_CLOEXEC
    int SOCK_NONBLOCK

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        pass
    cdef struct in6_addr:
        pass
    cdef struct sockaddr_in:
        in_addr sin_addr
    cdef struct sockaddr_in6:
        in6_addr sin6_addr
    int IPPROTO_TCP
    enum:
        INET6_ADDRSTRLEN

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *text, socklen_t size)

cdef extern from "<unistd.h>" nogil:
    int close(int descriptor)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        epoll_data_t data
    int epoll_wait(int epoll, epoll_event *events, int most, int milliseconds)

cdef enum:
    AT_ONCE = 64
    TCP_SAVED_SYN = 28  # linux/tcp.h
    SYN_ROOM = 256  # the kernel gives all of it or nothing: Ethernet, IPv6 and TCP headers, with room for extensions
    ETHERNET = 14
    ONE_PACKET = 1208  # what TCP with timestamps carries over IPv6's smallest MTU, 1280

MOST = AT_ONCE

cdef struct Accepted:
    int descriptor
    ssize_t size  # -1: nothing is there yet
    socklen_t link
    unsigned char ethernet[ETHERNET]
    char address[INET6_ADDRSTRLEN]


cdef int _accept(int listening, Accepted *found) noexcept nogil:
    """Take one connection; -1 and errno where there is none."""
    cdef sockaddr_storage peer
    cdef unsigned char syn[SYN_ROOM]
    cdef socklen_t length = sizeof(peer)
    cdef const void *address = NULL
    found.descriptor = accept4(listening, <sockaddr *> &peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if found.descriptor < 0:
        return -1
    if peer.ss_family == AF_INET:
        address = &(<sockaddr_in *> &peer).sin_addr
    elif peer.ss_family == AF_INET6:
        address = &(<sockaddr_in6 *> &peer).sin6_addr
    if address == NULL or inet_ntop(peer.ss_family, address, found.address, INET6_ADDRSTRLEN) == NULL:
        found.address[0] = 0
    length = SYN_ROOM
    if getsockopt(found.descriptor, IPPROTO_TCP, TCP_SAVED_SYN, syn, &length) < 0:
        length = 0
    found.link = min(length, <socklen_t> ETHERNET)
    memcpy(found.ethernet, syn, found.link)
    return 0


def accept_each(int listening, bytearray scratch not None, Py_ssize_t size):
    """See `fastpath._sockets_py.accept_each`."""
    cdef Accepted found[AT_ONCE]
    cdef char *room
    cdef Py_ssize_t length, at = 0
    cdef int tries = 0, done = 0, failure = 0, i
    # The view keeps the bytes where they are while the lock is released.
    cdef unsigned char[::1] view
    if not 0 < size <= len(scratch):
        raise ValueError("size is from 1 to the length of scratch")
    view = scratch
    room = <char *> &view[0]
    length = view.shape[0]
    with nogil:
        while tries < AT_ONCE and length - at >= size:
            tries += 1
            if _accept(listening, &found[done]) < 0:
                failure = errno
                if failure == EAGAIN or failure == EINTR or _exhausted(failure):
                    break
                continue  # that connection was gone before it was accepted
            found[done].size = recv(found[done].descriptor, room + at, size, MSG_DONTWAIT)
            if found[done].size > 0:
                at += found[done].size
            elif found[done].size < 0 and errno != EAGAIN and errno != EINTR:
                found[done].size = 0
            done += 1
    if done == 0 and _exhausted(failure):
        raise OSError(failure, strerror(failure).decode())
    rows = []
    at = 0
    try:
        for i in range(done):
            data = None
            if found[i].size >= 0:
                data = PyBytes_FromStringAndSize(room + at, found[i].size)
                at += found[i].size
            rows.append((
                found[i].descriptor,
                PyBytes_FromStringAndSize(<char *> found[i].ethernet, found[i].link),
                PyUnicode_DecodeASCII(found[i].address, strlen(found[i].address), NULL),
                data,
            ))
    except BaseException:
        for i in range(done):
            close(found[i].descriptor)
        raise
    return rows


cdef bint _exhausted(int failure) noexcept nogil:
    """The process or the kernel has run out of something."""
    return failure == EMFILE or failure == ENFILE or failure == ENOBUFS or failure == ENOMEM


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


def send_each(descriptors, messages, ends):
    """See `fastpath._sockets_py.send_each`."""
    cdef int sockets[AT_ONCE]
    cdef const char *data[AT_ONCE]
    cdef ssize_t lengths[AT_ONCE]
    cdef ssize_t sizes[AT_ONCE]
    cdef bint last[AT_ONCE]
    cdef bint small
    cdef Py_ssize_t count = len(descriptors), first, number, i
    cdef bytes message
    if not count == len(messages) == len(ends):
        raise ValueError("as many messages and ends as descriptors")
    # Tuples of their own: nobody can take a message away while the lock is released.
    descriptors, messages, ends = tuple(descriptors), tuple(messages), tuple(ends)
    # Whose socket is closed must be told: nothing that may fail comes after the sending.
    taken = [len(message) for message in messages]
    for first in range(0, count, AT_ONCE):
        number = min(<Py_ssize_t> AT_ONCE, count - first)
        for i in range(number):
            message = messages[first + i]
            sockets[i] = descriptors[first + i]
            data[i] = PyBytes_AS_STRING(message)
            lengths[i] = PyBytes_GET_SIZE(message)
            last[i] = ends[first + i]
        with nogil:
            for i in range(number):
                # A short last message waits for the end of the connection, which goes in the same packet then.
                small = last[i] and lengths[i] <= ONE_PACKET
                sizes[i] = send(sockets[i], data[i], lengths[i], MSG_DONTWAIT | MSG_NOSIGNAL | (MSG_MORE if small else 0))
                if sizes[i] < 0:
                    sizes[i] = 0 if errno == EAGAIN or errno == EINTR else -1
                elif last[i] and sizes[i] == lengths[i]:
                    if small:
                        shutdown(sockets[i], SHUT_WR)  # a close alone throws it away where bytes were not read
                    close(sockets[i])
        for i in range(number):
            if sizes[i] != lengths[i]:
                try:
                    taken[first + i] = sizes[i]
                except MemoryError:
                    taken[first + i] = -1
    return taken
