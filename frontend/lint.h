// matryoshka vmcs-lint: a VMCS in text against the checks of VM entry, without a guest.
#ifndef FRONTEND_LINT_H
#define FRONTEND_LINT_H

enum lint_status {
    LINT_WOULD_SUCCEED = 0,
    LINT_VIOLATED = 1,
    LINT_USAGE = 2,
    LINT_BAD_INPUT = 4, // a file that cannot be read or understood
    LINT_HOST = 6,      // the host refused
};
int lint_main(int argc, char **argv); // argv[0] is "vmcs-lint"

#endif
