// matryoshka lecture. A copy of this program runs the image with its serial line and its log on one pipe, so
// that both come in the order of time; what is shown is the story, and between its lines what happened
// meanwhile.
#define _GNU_SOURCE
#include "frontend/lecture.h"
#include "frontend/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KINDS = 64, LEFT = 38 };

// What the user wants of a program: its story with the timeline, or one of these.
struct way {
    bool story, raw, debug;
    const char *report; // file, or NULL
};

struct show {
    bool colours, timeline, plain; // plain: the program's lines as they come
    unsigned long failed, points, exits, traps;
    bool guest[64]; // which processors are in VMX non-root operation
    struct {
        char name[64];
        unsigned long n;
    } since[KINDS]; // what happened since the line of the story before
    unsigned since_n;
    bool bailed;
};

static int complain(int status, const char *format, const char *a)
{
    fputs("matryoshka lecture: ", stderr);
    plain_line(stderr, format, a);
    return status;
}

static void help(void)
{
    puts("usage: matryoshka lecture                               lists the programs\n"
         "       matryoshka lecture N [WORDS...] [-- OPTIONS]     runs one and tells its story\n\n"
         "Each program shows a part of why x86 needed VT-x: the same guest under a monitor that runs it in "
         "ring 3,\n"
         "and under one that has VT-x. Beside the story stands what happened meanwhile: faults (in ring 3 "
         "they are\n"
         "the ways into the monitor), interrupts, VM exits. The programs are in roms/lecture/.\n\n"
         "  WORDS          parameters of the program, as calls=10 (the head of its source and "
         "docs/lecture.md list them)\n"
         "  --story        the story alone, as the program prints it on its serial line\n"
         "  --raw          the same with the lines of -d vmx,fault,int among it, as they come\n"
         "  --debug        stops at the beginning of each scene, in the monitor: cont goes on, help lists "
         "the rest\n"
         "  --report FILE  the run as a page besides: levels over time, exits, handlers\n"
         "  -- OPTIONS     go to the machine as they are: -- -cpu max,-umip\n\n"
         "Exit status: 0 all that the program claims was seen, 1 something was not, 2 usage, 3 the machine "
         "ended\n"
         "otherwise than the program ends it, 6 the host refused.");
}

// What a program takes: a number of something. Which names it knows is its own affair.
static bool parameter(const char *word)
{
    char *end = NULL;
    const char *value = strchr(word, '=');
    if (!value || value == word || value[1] < '0' || value[1] > '9') return false;
    bool hex = value[1] == '0' && value[2] == 'x';
    errno = 0;
    unsigned long long x = strtoull(value + 1 + 2 * hex, &end, hex ? 16 : 10);
    return !errno && !*end && end > value + 1 + 2 * hex && x <= 0xFFFFFFFF;
}

static int written(int status)
{
    if (fflush(stdout) == 0) return status;
    return complain(LECTURE_HOST, "cannot write to standard output: %s", strerror(errno));
}

static int list(void)
{
    for (unsigned i = 0; i < lectures_n; i++) printf("%3u  %s\n", lectures[i].number, lectures[i].title);
    return written(0);
}

static void happened(struct show *s, const char *name)
{
    for (unsigned i = 0; i < s->since_n; i++)
        if (!strcmp(s->since[i].name, name)) {
            s->since[i].n++;
            return;
        }
    if (s->since_n == KINDS) return;
    snprintf(s->since[s->since_n].name, sizeof s->since[0].name, "%s", name);
    s->since[s->since_n++].n = 1;
}

// The value of " key=" in a line of the log, up to the next blank.
static const char *value(const char *line, const char *key, char *to, size_t n)
{
    const char *p = strstr(line, key);
    to[0] = 0;
    if (p) snprintf(to, n, "%.*s", (int)strcspn(p + strlen(key), " "), p + strlen(key));
    return to;
}

// A line of the log (frontend/log.c). False: it is none.
static bool log_line(struct show *s, const char *line)
{
    char what[32], name[64], word[16];
    if (!strstr(line, " cpu=") || !strstr(line, " retired=")) return false;
    unsigned cpu = (unsigned)strtoul(value(line, " cpu=", word, sizeof word), NULL, 10) % 64;
    if (!strncmp(line, "vmentry ", 8)) {
        s->guest[cpu] = true;
    } else if (!strncmp(line, "vmexit ", 7)) {
        s->guest[cpu] = false;
        s->exits++;
        snprintf(name, sizeof name, "exit %s", value(line, " reason=", what, sizeof what));
        happened(s, name);
    } else if (!strncmp(line, "fault ", 6)) {
        value(line, " vector=", what, sizeof what);
        char *open = strchr(what, '('), *close = strchr(what, ')');
        if (close) *close = 0;
        if (!s->guest[cpu]) s->traps++;
        snprintf(name, sizeof name, "%s%s", open ? open + 1 : what, s->guest[cpu] ? " in the guest" : "");
        happened(s, name);
    } else if (!strncmp(line, "interrupt ", 10)) {
        snprintf(name, sizeof name, "interrupt %s%s", value(line, " vector=", what, sizeof what),
                 s->guest[cpu] ? " in the guest" : "");
        happened(s, name);
    }
    return true;
}

// What happened stands on the left, a kind a line; the story on the right.
static void left(struct show *s)
{
    const char *bar = s->colours ? "│" : "|";
    for (unsigned i = 0; i < s->since_n && s->timeline; i++) {
        char text[80];
        snprintf(text, sizeof text, "%8lu x %s", s->since[i].n, s->since[i].name);
        printf("%s%-*.*s%s %s\n", s->colours ? "\033[36m" : "", LEFT, LEFT, text, s->colours ? "\033[0m" : "",
               bar);
    }
    s->since_n = 0;
    if (s->timeline) printf("%*s %s", LEFT, "", bar);
}

static void put(struct show *s, const char *colour, const char *mark, const char *text)
{
    left(s);
    if (!s->timeline && s->colours) fputs("\r\033[K", stdout); // the monitor's prompt
    printf("%s%s%s%s%s\n", s->timeline && (*mark || *text) ? " " : "", s->colours ? colour : "", mark, text,
           s->colours ? "\033[0m" : "");
}

static void story_line(struct show *s, char *line)
{
    if (line[0] == '#') {
        char *text = line + 1 + (line[1] == ' ');
        if (!strncmp(text, "== ", 3))
            put(s, "\033[1m", "", text + 3);
        else
            put(s, "", "", text);
    } else if (!strncmp(line, "ok ", 3) || !strncmp(line, "not ok ", 7)) {
        bool good = line[0] == 'o';
        s->points++;
        s->failed += !good;
        put(s, good ? "\033[32m" : "\033[31m", good ? "" : "NOT ", strstr(line, "ok "));
    } else if (!strncmp(line, "Bail out!", 9)) {
        s->bailed = true;
        put(s, "\033[31m", "", line);
    } else if (!strncmp(line, "matryoshka:", 11)) {
        fprintf(stderr, "%s\n", line);
    }
}

static void show(struct show *s, FILE *from)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    while ((n = getline(&line, &size, from)) > 0) {
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (s->plain) {
            s->failed += !strncmp(line, "not ok ", 7);
            s->bailed |= !strncmp(line, "Bail out!", 9);
            puts(line);
        } else if (!s->timeline || !log_line(s, line)) {
            story_line(s, line);
        }
    }
    free(line);
}

// The image as a file that the copy can open by name.
static int image_file(const struct lecture *l)
{
    int fd = memfd_create("lecture", 0);
    for (const unsigned char *p = l->image; fd >= 0 && p < l->image_end;) {
        ssize_t n = write(fd, p, (size_t)(l->image_end - p));
        if (n <= 0) return -1;
        p += n;
    }
    return fd;
}

// The monitor's own connection, by which the machine is told to stop at each scene: the user has another.
struct socket_place {
    char directory[40], path[64];
};

static bool make_place(struct socket_place *p)
{
    snprintf(p->directory, sizeof p->directory, "/tmp/matryoshka-lecture-XXXXXX");
    if (!mkdtemp(p->directory)) return false;
    snprintf(p->path, sizeof p->path, "%s/monitor", p->directory);
    return true;
}

static bool ended(pid_t child)
{
    siginfo_t i = {0};
    return waitid(P_PID, (id_t)child, &i, WEXITED | WNOHANG | WNOWAIT) != 0 || i.si_pid == child;
}

static int stop_at_scenes(const struct socket_place *p, pid_t child)
{
    static const char commands[] = "watch physical lecture_scene 4 w\ncont\n";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", p->path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    for (int tries = 0; fd >= 0 && tries < 3000 && !ended(child); tries++) {
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
            if (write(fd, commands, sizeof commands - 1) < 0) break;
            return fd;
        }
        usleep(10000);
    }
    if (fd >= 0) close(fd);
    return -1;
}

struct start {
    const struct lecture *l;
    struct way way;
    int image, serial; // serial: the writing end of the pipe
    const char *words, *socket;
    char **options;
};

static _Noreturn void become_machine(const struct start *t)
{
    char kernel[64], symbols[80], serial[64], monitor[80], processors[16], *argv[64];
    int n = 0, null = open("/dev/null", O_RDONLY);
    snprintf(kernel, sizeof kernel, "/proc/self/fd/%d", t->image);
    snprintf(symbols, sizeof symbols, "root:%s", kernel);
    snprintf(serial, sizeof serial, t->way.debug ? "file:/proc/self/fd/%d" : "stdio", t->serial);
    snprintf(monitor, sizeof monitor, "unix:%s", t->socket);
    snprintf(processors, sizeof processors, "%u", t->l->processors);
    if (null >= 0 && !t->way.debug) dup2(null, 0);
    const char *own[] = {"matryoshka",
                         "-m",
                         "64",
                         "-smp",
                         processors,
                         "-nodefaults",
                         "-display",
                         "none",
                         "-no-reboot",
                         "-serial",
                         serial,
                         "-device",
                         "isa-debug-exit,iobase=0xf4,iosize=4",
                         "-kernel",
                         kernel,
                         "-append",
                         t->words};
    const char *debug[] = {"-S", "-monitor", "stdio", "-monitor", monitor, "--symbols", symbols};
    for (unsigned i = 0; i < sizeof own / sizeof own[0]; i++) argv[n++] = (char *)own[i];
    for (unsigned i = 0; t->way.debug && i < sizeof debug / sizeof debug[0]; i++)
        argv[n++] = (char *)debug[i];
    if (!t->way.story && !t->way.debug) argv[n++] = "-d", argv[n++] = "vmx,fault,int";
    if (t->way.report) {
        const char *report[] = {"--report", t->way.report, "--symbols", symbols};
        for (unsigned i = 0; i < sizeof report / sizeof report[0]; i++) argv[n++] = (char *)report[i];
    }
    for (char **o = t->options; *o && n < 63; o++) argv[n++] = *o;
    argv[n] = NULL;
    execv("/proc/self/exe", argv);
    fprintf(stderr, "matryoshka: cannot run itself: %s\n", strerror(errno));
    _exit(LECTURE_HOST);
}

static int run(const struct lecture *l, struct way way, const char *words, char **options)
{
    struct show s = {.plain = way.story || way.raw, .timeline = !way.story && !way.raw && !way.debug};
    struct socket_place place = {0};
    int ends[2], image = image_file(l), status = 0, told = -1;
    s.colours = !s.plain && isatty(1);
    if (image < 0 || pipe(ends) != 0)
        return complain(LECTURE_HOST, "no room for the image: %s", strerror(errno));
    if (way.debug && !make_place(&place))
        return complain(LECTURE_HOST, "no directory in /tmp for the monitor: %s", strerror(errno));
    struct start start = {l, way, image, ends[1], words, place.path, options};
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) return complain(LECTURE_HOST, "cannot start the machine: %s", strerror(errno));
    if (child == 0) {
        close(ends[0]);
        if (!way.debug) {
            dup2(ends[1], 1);
            if (!way.story) dup2(ends[1], 2);
            close(ends[1]);
        }
        become_machine(&start);
    }
    close(ends[1]);
    close(image);
    if (way.debug) {
        signal(SIGINT, SIG_IGN); // the monitor's
        signal(SIGPIPE, SIG_IGN);
        setvbuf(stdout, NULL, _IOLBF, 0);
        told = stop_at_scenes(&place, child);
        if (told < 0 && !ended(child)) { // else it has said why
            kill(child, SIGTERM);
            complain(LECTURE_ENDED, "the machine's monitor does not answer%s", "");
        }
    }
    FILE *from = fdopen(ends[0], "r");
    if (from) show(&s, from);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (way.debug) {
        if (told >= 0) close(told);
        unlink(place.path);
        rmdir(place.directory);
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    bool refused = code == LECTURE_USAGE || code == LECTURE_HOST; // the machine has said why
    if (s.timeline && !refused)
        printf("\n%lu points, %lu failed; %lu faults outside guests, %lu VM exits\n", s.points, s.failed,
               s.traps, s.exits);
    if (from) fclose(from);
    if (written(0) != 0) return LECTURE_HOST;
    if (refused) return code;
    if (way.debug && !s.bailed && code == 0) return LECTURE_HELD; // it was left in the middle
    if (s.bailed || (code != 1 && code != 3))
        return complain(LECTURE_ENDED, "the program did not come to its end%s", "");
    return s.failed || code == 3 ? LECTURE_FAILED : LECTURE_HELD;
}

int lecture_main(int argc, char **argv)
{
    const struct lecture *l = NULL;
    struct way way = {0};
    char words[512] = "";
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        char *end;
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h") || !strcmp(argv[i], "-help"))
            return help(), written(0);
        if (!strcmp(argv[i], "--story")) {
            way.story = true;
        } else if (!strcmp(argv[i], "--raw")) {
            way.raw = true;
        } else if (!strcmp(argv[i], "--report")) {
            if (i + 1 >= argc) return complain(LECTURE_USAGE, "--report wants a file%s", "");
            way.report = argv[++i];
        } else if (!strcmp(argv[i], "--debug")) {
            way.debug = true;
        } else if (argv[i][0] == '-') {
            return complain(LECTURE_USAGE, "there is no option %s (--help tells more)", argv[i]);
        } else if (!l) {
            unsigned long number = strtoul(argv[i], &end, 10);
            for (unsigned k = 0; k < lectures_n && !*end; k++)
                if (lectures[k].number == number) l = &lectures[k];
            if (!l && lectures_n)
                return complain(LECTURE_USAGE, "there is no program %s (without a number they are listed)",
                                argv[i]);
            if (!l) break;
        } else if (!parameter(argv[i])) {
            return complain(LECTURE_USAGE, "%s: NAME=NUMBER expected, with a number up to 4294967295",
                            argv[i]);
        } else if (strlen(words) + strlen(argv[i]) + 2 > sizeof words) {
            return complain(LECTURE_USAGE, "too many words: %s", argv[i]);
        } else {
            if (*words) strcat(words, " ");
            strcat(words, argv[i]);
        }
    }
    if (!lectures_n)
        return complain(LECTURE_HOST, "this matryoshka was built without the guest images%s", "");
    if (i < argc) i++; // "--"
    if (!l && (way.story || way.raw || way.report || way.debug || i < argc))
        return complain(LECTURE_USAGE, "which program? Options are for one (without any they are listed)%s",
                        "");
    if (!l) return list();
    return run(l, way, words, argv + i);
}
