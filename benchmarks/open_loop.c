/* An open-loop sender that is faster than the servers: requests go out when they are due, whether or not the
   earlier ones were answered.

   A request's time runs from the moment when it was due, so that it has all the waiting in it: for a
   connection that is free, in the server, and in this program too. It never sleeps, and so needs a processor
   of its own. When the system takes that away for more than a millisecond, the clock stands still: what would
   have been due then is due later, for no server is to blame. open_loop.py, which tells more about lost
   requests, needs as long for one as our worker does.

   open_loop PORT RATE SECONDS CONNECTIONS PATIENCE PATH

   sends RATE requests a second for SECONDS over kept CONNECTIONS, waits for the last answers at most PATIENCE
   seconds, and prints a line of JSON: the number of answers, of requests without one, the seconds from the
   first request to the last answer, quantiles of the requests' times in seconds, and the seconds for which the
   clock stood still. All answers must be as long as the first one.
   Exit status: 0, or 1 with a message. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64, BLOCK = 1 << 16 };

/* Seconds: more than it takes to serve all events at once. */
static const double PAUSE = 0.001;

struct client {
    int fd;
    double due;      /* of the request that it waits for */
    size_t received; /* bytes of the answer */
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void stop(const char *what) {
    fprintf(stderr, errno ? "open_loop: %s: %s\n" : "open_loop: %s\n", what, strerror(errno));
    exit(1);
}

static void *reserve(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) stop("memory");
    return memory;
}

static int by_size(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) stop("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int main(int count, char **words) {
    if (count != 7) stop("usage: open_loop PORT RATE SECONDS CONNECTIONS PATIENCE PATH");
    int port = atoi(words[1]), connections = atoi(words[4]);
    double rate = atof(words[2]), seconds = atof(words[3]), patience = atof(words[5]);
    long total = (long)(rate * seconds);
    if (total < 1 || connections < 1) stop("RATE times SECONDS and CONNECTIONS must be 1 or more");

    static char request[4096], block[BLOCK];
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", words[6]);
    struct client *clients = reserve((size_t)connections, sizeof *clients);
    /* The clients that are free, in a ring: the one that has been free for the longest time is next. */
    struct client **ring = reserve((size_t)connections, sizeof *ring);
    int first = 0, free_clients = connections;
    double *times = reserve((size_t)total, sizeof *times);
    int epoll = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        struct client *client = ring[i] = &clients[i];
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = client};
        client->fd = connect_to(port);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event)) stop("epoll");
    }
    /* The first answer, which is not counted, tells how long they are; it may come in parts. */
    struct timeval silence = {.tv_usec = 200000};
    size_t whole = 0;
    ssize_t part;
    setsockopt(clients[0].fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    if (send(clients[0].fd, request, (size_t)size, 0) != size) stop("send");
    while ((part = recv(clients[0].fd, block, sizeof block, 0)) > 0) whole += (size_t)part;
    if (whole == 0) stop("no answer");
    for (int i = 0; i < connections; i++) fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);

    int open_clients = connections;
    long sent = 0, answered = 0;
    double start = now(), time = start, paused = 0.0;
    double end = start + seconds + patience;
    while (answered < total && open_clients && time < end) {
        while (free_clients && sent < total && start + (double)sent / rate <= time) {
            struct client *client = ring[first];
            first = (first + 1) % connections;
            free_clients--;
            client->due = start + (double)sent++ / rate;
            client->received = 0;
            send(client->fd, request, (size_t)size, MSG_NOSIGNAL); /* if it cannot, the end is read below */
        }
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, 0);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            ssize_t length = recv(client->fd, block, sizeof block, 0);
            if (length < 0 && errno == EAGAIN) continue;
            if (length <= 0) { /* its request is lost */
                open_clients--;
                close(client->fd);
                continue;
            }
            client->received += (size_t)length;
            if (client->received < whole) continue;
            times[answered++] = now() - client->due;
            ring[(first + free_clients++) % connections] = client;
        }
        double pause = now() - time;
        time += pause;
        if (pause > PAUSE) {
            start += pause;
            end += pause;
            paused += pause;
        }
    }
    if (answered == 0) stop("no answer");
    qsort(times, (size_t)answered, sizeof *times, by_size);
    printf("{\"answers\": %ld, \"lost\": %ld, \"seconds\": %.6f, \"p50\": %.9f, \"p99\": %.9f, \"p99.9\": %.9f, "
           "\"paused\": %.6f}\n",
           answered, total - answered, time - start, times[answered / 2],
           times[(long)((double)answered * 0.99)], times[(long)((double)answered * 0.999)], paused);
    return 0;
}
