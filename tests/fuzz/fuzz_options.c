// The command line: every one is refused with one line, or prints what it asks for, or makes a machine.
//
// Input: the words, one a line.
#include "frontend/options.h"
#include "tests/fuzz/fuzz.h"

enum { WORDS = 40, MEMORY = 32 << 20 };

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static FILE *out;
    if (!out) out = fopen("/dev/null", "w");
    char *text = malloc(size + 1), *word[WORDS + 1] = {(char *)"matryoshka"}, *rest = text;
    int n = 1;
    memcpy(text, data, size);
    text[size] = 0;
    while (n < WORDS && rest) word[n++] = strsep(&rest, "\n");
    struct options *o = malloc(sizeof *o); // not on the stack: what lies behind it is nobody's
    char *why = calloc(1, 512);
    if (!options_parse(o, n, word, why, 512)) {
        MUST(*why && !strchr(why, '\n'), "refused without a reason, or with more than a line of it");
    } else if (o->tell) {
        MUST(options_print(o, out), "nothing was printed");
    } else {
        MUST(o->kernel, "a run without a kernel");
        struct machine_config c = {0};
        options_configure(o, &c);
        if (c.ram_size > MEMORY) c.ram_size = MEMORY;
        struct machine *m = malloc(sizeof *m);
        const char *line = NULL;
        if (machine_init(m, &c, &line)) {
            machine_run(m, 50);
            machine_free(m);
        } else {
            MUST(line && *line, "no machine, and no reason");
        }
        free(m);
    }
    free(why), free(o), free(text);
    return 0;
}
