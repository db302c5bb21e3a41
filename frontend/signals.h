// Signals of the host: each that would end the process ends the run in order instead, with the terminal as it
// was.
#ifndef FRONTEND_SIGNALS_H
#define FRONTEND_SIGNALS_H

#include <signal.h>

struct machine;
struct terminal;

extern volatile sig_atomic_t signals_end; // the number of the signal that ends the run; 0: none came

void signals_descriptors(void); // before anything is opened: of 0 to 2, what is closed leads to /dev/null
// a bug of our own: the terminal as it was, STATUS_BUG, and a core file of a copy where they are on
void signals_bugs(void);
// From now on: the run is stopped (machine_ask_stop), and a stop from outside (SIGTSTP) gives the terminal
// back meanwhile.
void signals_catch(struct machine *m, struct terminal *t);
// Stops the run every 50 ms from now on, for the caller to look at the keyboard, however long an instruction
// of the guest takes.
void signals_look_often(void);
void signals_machine_gone(void);

#endif
