// The monitor on the terminal: lines are edited, remembered and completed by libedit.
#ifndef FRONTEND_EDITOR_H
#define FRONTEND_EDITOR_H

#include "frontend/monitor.h"
#include "frontend/terminal.h"

struct editor {
    struct monitor monitor;
    struct terminal *terminal;
    void *line, *history; // libedit's; NULL until they are needed
    bool shown;           // the prompt is
};
void editor_make(struct editor *e, struct debugger *d, struct terminal *t);
// Whoever is at the terminal: shows the prompt, takes what was typed, does what it says.
void editor_attend(struct editor *e);
void editor_free(struct editor *e);

#endif
