// The main program of a fuzz target where there is no libFuzzer: runs the inputs that are named, files or
// folders of them, one after the other.
//
//   fuzz_TARGET FILE|FOLDER ...
//
// Exit status: 0 all were run; 1 one could not be read, or there was none.
#include <dirent.h>

#include "tests/fuzz/fuzz.h"

static bool run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    u8 *data = malloc(1 << 20);
    size_t n = f && data ? fread(data, 1, 1 << 20, f) : 0;
    bool ok = f && data && !ferror(f);
    u8 *exact = ok ? malloc(n ? n : 1) : NULL; // so that a byte behind the input is nobody's
    if (exact) {
        memcpy(exact, data, n);
        LLVMFuzzerTestOneInput(exact, n);
    }
    free(exact), free(data);
    if (f) fclose(f);
    if (!ok) fprintf(stderr, "%s cannot be read\n", path);
    return ok;
}

int main(int argc, char **argv)
{
    unsigned n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d && !run_file(argv[i])) return 1;
        if (!d) n++;
        for (const struct dirent *e; d && (e = readdir(d));) {
            char path[4096];
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            if (!run_file(path)) return 1;
            n++;
        }
        if (d) closedir(d);
    }
    printf("%u inputs\n", n);
    return n == 0;
}
