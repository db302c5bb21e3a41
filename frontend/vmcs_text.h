// A VMCS in text: names or encodings with values, or what Linux's KVM and Xen print of one.
#ifndef FRONTEND_VMCS_TEXT_H
#define FRONTEND_VMCS_TEXT_H

#include "vmx/fields.h"

struct vmcs_text {
    struct vmcs_fields f;
    unsigned line[VMCS_FIELD_COUNT]; // where the field was given, 0: it was not
    unsigned fields;                 // how many were
};

// What is to be said about a line. An error: the text as a whole is not to be used.
typedef void (*vmcs_text_tell)(void *opaque, bool error, unsigned line, const char *what);
// Of who reads a text: whom it is told, and where the reader is.
struct vmcs_text_to {
    vmcs_text_tell tell;
    void *opaque;
    unsigned line; // 0: of the whole
    bool failed;   // an error was told
};
void vmcs_text_say(struct vmcs_text_to *to, bool error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Reads `text` into *t, whose fields are 0 where the text has none. False if there was an error, or no field
// at all (which is told, too, as line 0).
bool vmcs_text_parse(struct vmcs_text *t, const char *text, size_t n, vmcs_text_tell tell, void *opaque);

// The field of a name: the project's, the manual's, Linux's, Xen's, VirtualBox's, Hyper-V's, whatever their
// case and what stands between their words; -1 if there is none. *high: of the upper half of a 64-bit field.
int vmcs_name_find(const char *name, size_t n, bool *high);
// The name that comes nearest to a misspelt one, NULL if none does.
const char *vmcs_name_nearest(const char *name, size_t n);

// A number: hexadecimal with or without 0x or a trailing H, with _ between digits or C's UL behind; ~0 or -1
// for all ones. The end of it, or NULL.
const char *vmcs_text_number(const char *s, u64 *value);

#endif
