// A whole machine in one file (-loadvm, --savevm): what machine_state_save makes, in a container.
#ifndef FRONTEND_STATE_FILE_H
#define FRONTEND_STATE_FILE_H

#include "devices/journal.h"

// Between runs. False, with a line in `why`, if it cannot be saved or written; the file of that name is as it
// was.
bool state_file_save(struct journal *j, const char *path, char *why, size_t n);
// Into a machine of the same options, before anything else comes to it. False, with a line in `why`, if it
// does not fit or is not whole; nothing has changed then. Counts of instructions go on from the saved
// machine's.
bool state_file_load(struct journal *j, const char *path, char *why, size_t n);
// The same of a file's bytes; `path` is what `why` calls them.
bool state_file_load_bytes(struct journal *j, const u8 *data, u64 size, const char *path, char *why,
                           size_t n);

#endif
