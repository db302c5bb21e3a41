// The monitor's commands: one table for gdb's `monitor`, the terminal and sockets. A command looks at a
// machine between two slices, so looking changes nothing, and answers in words for a person or in JSON for a
// program.
#ifndef FRONTEND_MONITOR_H
#define FRONTEND_MONITOR_H

#include <stdio.h>

#include "frontend/debugger.h"

enum monitor_kind { MONITOR_GDB, MONITOR_TEXT, MONITOR_JSON };
struct monitor {
    struct debugger *d;
    u8 kind; // enum monitor_kind
    void (*put)(void *opaque, const char *text);
    void *opaque;
    bool *physical; // gdb's: its addresses are physical
    bool quit;      // the machine is to end
    bool waits;     // no further command but `stop` while the machine runs
    bool attached;
    u64 told; // of debugger.stood
    // JSON: the answer under way. `text`: what a person is told; `members`: the same for a program
    FILE *text, *members;
    char *text_at, *members_at;
    size_t text_n, members_n;
    bool failed;
    u8 depth;
    bool any[16]; // at this depth something stands already
    char ends[16];
};

void monitor_make(struct monitor *c, struct debugger *d, enum monitor_kind kind,
                  void (*put)(void *opaque, const char *text), void *opaque);
// Does what a line says. JSON: answers with one line, an object.
void monitor_command(struct monitor *c, const char *line);
// If the machine has come to a stand since the last time, says so.
void monitor_look(struct monitor *c);
// The commands that begin so: their names, NULL at their end.
const char *monitor_complete(const char *beginning, unsigned n);

// ---- for the commands ----
enum { MONITOR_WORDS = 40 };
struct words {
    unsigned n;
    char *at[MONITOR_WORDS];
};
struct monitor_row {
    const char *name, *arguments, *help, *example;
    void (*run)(struct monitor *c, const struct words *w);
};
extern const struct monitor_row monitor_run_rows[], monitor_break_rows[], monitor_look_rows[],
    monitor_table_rows[], monitor_map_rows[], monitor_vmx_rows[], monitor_summary_rows[];
extern const unsigned monitor_run_rows_n, monitor_break_rows_n, monitor_look_rows_n, monitor_table_rows_n,
    monitor_map_rows_n, monitor_vmx_rows_n, monitor_summary_rows_n;

const char *word(const struct words *w, unsigned n); // "" if there are not as many
bool word_is(const struct words *w, unsigned n, const char *text);

// For a person.
void say(struct monitor *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say_text(void *monitor, const char *text); // whatever is in it; a vmx_put
// What was expected: the command has failed.
void fail(struct monitor *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
// For a program: members of the answer, or of what is open. key NULL within an array.
void json_open(struct monitor *c, const char *key, char kind); // '{' or '['
void json_close(struct monitor *c);
void json_text(struct monitor *c, const char *key, const char *text);
void json_hex(struct monitor *c, const char *key, u64 x); // as text: JSON's numbers do not hold 64 bits
void json_number(struct monitor *c, const char *key, u64 x);
void json_flag(struct monitor *c, const char *key, bool x);
struct vmx_entry;
struct vmx_check_failure;
// The members that the entry doctor has made (vmx/explain.h).
void json_raw(struct monitor *c,
              void (*explain)(const struct vmx_entry *e, const struct vmx_check_failure *first,
                              void (*put)(void *opaque, const char *text), void *opaque),
              const struct vmx_entry *e);

// Arguments. False, and told, if it is none. An address is a number, a symbol, a register ($rip) or a field
// of the current VMCS ($GUEST_RIP), and sums of those.
bool argument_address(struct monitor *c, const struct words *w, unsigned n, const char *what, u64 *x);
bool argument_number(struct monitor *c, const struct words *w, unsigned n, const char *what, u64 least,
                     u64 most, u64 *x);
// An exit reason by number or name, as a bit of two words; "any", or no word: all.
bool argument_reason(struct monitor *c, const struct words *w, unsigned n, u64 mask[2]);
// The current VMCS's address, or that of word n.
bool argument_vmcs(struct monitor *c, const struct words *w, unsigned n, u64 *vmcs);
// "name+0x12" in angle brackets behind a space, of an address of the view; or nothing.
const char *symbol_behind(const struct monitor *c, u64 addr, char *to, size_t n);

// JSON: an object begins, and goes out as one line: the answer to this line, or an event of this name.
void monitor_answer_begin(struct monitor *c);
void monitor_answer(struct monitor *c, const char *line, bool event);
void monitor_tell_context(struct monitor *c); // what is looked at
void monitor_tell_summary(struct monitor *c); // what led here
void monitor_help(struct monitor *c, const struct words *w);

#endif
