// Signals of the host.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "devices/machine.h"
#include "frontend/options.h"
#include "frontend/signals.h"
#include "frontend/terminal.h"

volatile sig_atomic_t signals_end;
static volatile sig_atomic_t ends_asked;
#define TICK \
    SIGRTMAX // the timer's: real-time signals queue, so one that somebody sends is not lost behind it
static timer_t timer;
static bool timer_made;
static struct machine *volatile machine;
static struct terminal *volatile terminal;

void signals_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) _exit(STATUS_HOST);
}

static void on_bug(int n)
{
    static const char text[] = "matryoshka: bug: a signal of the host's processor\n";
    struct rlimit core;
    if (n != SIGABRT && write(2, text, sizeof text - 1) < 0) n = SIGABRT;
    if (terminal) terminal_close(terminal);
    if (getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur > 0 && fork() == 0) {
        signal(SIGABRT, SIG_DFL);
        abort();
    }
    _exit(STATUS_BUG);
}

void signals_bugs(void)
{
    static u8 stack[65536]; // a stack that has overflowed holds no handler
    static const int bug[] = {
        SIGABRT,
#ifndef __SANITIZE_ADDRESS__ // which explains the others itself
        SIGSEGV, SIGBUS, SIGFPE, SIGILL,
#endif
    };
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction a = {.sa_handler = on_bug, .sa_flags = SA_ONSTACK | SA_RESETHAND};
    for (unsigned i = 0; i < ARRAY_LEN(bug); i++) sigaction(bug[i], &a, NULL);
}

static void start_timer(void)
{
    const struct timespec period = {.tv_nsec = 50000000};
    if (timer_made)
        timer_settime(timer, 0, &(struct itimerspec){.it_value = period, .it_interval = period}, NULL);
}

static void on_end(int n, siginfo_t *info, void *context);

// What was ignored when we were started stays so (nohup, a shell's background); but a closed pipe is an end,
// whoever ignores it.
static void catch (int n, int flags)
{
    struct sigaction was, a = {.sa_sigaction = on_end, .sa_flags = SA_ONSTACK | SA_SIGINFO | flags};
    sigemptyset(&a.sa_mask);
    if (sigaction(n, NULL, &was) == 0 && (was.sa_handler != SIG_IGN || n == SIGPIPE || n == TICK))
        sigaction(n, &a, NULL);
}

// What runs is stopped at its next boundary. What sleeps in a system call wakes for the signal; if that came
// just before, for the timer's: nothing may keep a process that was asked to end. Who insists gets it at
// once.
static void on_end(int n, siginfo_t *info, void *context)
{
    int saved = errno;
    if (!(info->si_code == SI_TIMER && info->si_value.sival_ptr == &timer)) {
        if (++ends_asked > 3) {
            if (terminal) terminal_close(terminal);
            _exit(128 + n);
        }
        if (!signals_end) {
            signals_end = n;
            catch (TICK, 0); // from now on it interrupts
            start_timer();
        }
    }
    if (machine) machine_ask_stop(machine);
    errno = saved;
}

static void on_stop(int n)
{
    int saved = errno;
    struct sigaction was;
    sigset_t set;
    if (terminal) terminal_suspend(terminal);
    sigaction(n, &(struct sigaction){.sa_handler = SIG_DFL}, &was);
    sigemptyset(&set);
    sigaddset(&set, n);
    raise(n);
    sigprocmask(SIG_UNBLOCK, &set, NULL); // stops here
    sigaction(n, &was, NULL);
    if (terminal) terminal_resume(terminal);
    errno = saved;
}

static void on_continue(int n)
{
    int saved = errno;
    if (terminal) terminal_resume(terminal); // the shell that stopped us has set it for itself
    errno = saved;
}

void signals_catch(struct machine *m, struct terminal *t)
{
    static const int others[] = {SIGHUP,  SIGINT,    SIGQUIT, SIGTRAP,   SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM,
                                 SIGTERM, SIGSTKFLT, SIGXCPU, SIGVTALRM, SIGPROF, SIGIO,   SIGPWR,  SIGSYS};
    machine = m;
    terminal = t;
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) catch (others[i], 0);
    for (int n = SIGRTMIN; n <= SIGRTMAX; n++) catch (n, n == TICK ? SA_RESTART : 0);
    signal(SIGXFSZ, SIG_IGN); // a file as long as it may be is one that cannot be written: EFBIG
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_ONSTACK | SA_RESTART};
    struct sigaction go_on = {.sa_handler = on_continue, .sa_flags = SA_ONSTACK | SA_RESTART};
    struct sigaction was;
    if (sigaction(SIGTSTP, NULL, &was) == 0 && was.sa_handler != SIG_IGN) sigaction(SIGTSTP, &stop, NULL);
    sigaction(SIGCONT, &go_on, NULL);
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = TICK, .sigev_value.sival_ptr = &timer};
    timer_made = timer_create(CLOCK_MONOTONIC, &e, &timer) == 0;
}

void signals_look_often(void) { start_timer(); }

void signals_machine_gone(void) { machine = NULL; }
