// Prints what there is to say about the options: --help, the lists, and the manual page (man(7)), all from
// options_table.c.
#include <string.h>

#include "cpu/system/model.h"
#include "frontend/options_table.h"

enum { LEFT = 26, WIDTH = 100 };

// Words from column `indent` on, lines of at most WIDTH.
static void wrap(FILE *out, const char *text, unsigned indent)
{
    unsigned column = indent;
    bool first = true;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (!first && column + 1 + n > WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            first = true;
        }
        fprintf(out, "%s%.*s", first ? "" : " ", (int)n, text);
        column += (unsigned)n + !first;
        first = false;
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
}

static void entry(FILE *out, const char *left, const char *text, unsigned width)
{
    fprintf(out, "  %-*s", (int)width - 2, left);
    if (strlen(left) + 2 >= width) fprintf(out, "\n%*s", (int)width, "");
    wrap(out, text, width);
}

// Its spellings and its value.
static void option_text(char *text, size_t n, const struct option_row *r)
{
    const struct option_row *more =
        r + 1 < option_rows + option_rows_n && r[1].id == r->id && !r[1].help ? r + 1 : NULL;
    snprintf(text, n, "%s%s%s%s%s%s", r->ours ? "--" : "-", r->name, more ? ", -" : "",
             more ? more->name : "", r->arg && !option_value_optional(r) ? " " : "", r->arg ? r->arg : "");
}

// The names of those options of QEMU, as a list.
static void absent_names(FILE *out, bool accepted, const char *dash, void (*put)(FILE *, const char *))
{
    char list[2048] = "";
    size_t n = 0;
    for (unsigned i = 0; i < absent_rows_n; i++) {
        const struct absent_row *r = &absent_rows[i];
        if ((r->accept && r->accept[0] == '*') != accepted) continue;
        for (const char *at = r->names; *at; at += strcspn(at, " ") + (at[strcspn(at, " ")] == ' '))
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s%.*s", n ? ", " : "", dash,
                                  (int)strcspn(at, " "), at);
    }
    put(out, list);
}
static void put_wrapped(FILE *out, const char *text)
{
    fputs("  ", out);
    wrap(out, text, 2);
}

static void print_help(FILE *out)
{
    fputs("usage: matryoshka -kernel FILE [options]\n"
          "       matryoshka vmcs-lint FILE     checks a VMCS in text, without a guest (vmcs-lint --help)\n"
          "       matryoshka lecture [N]        why x86 needed VT-x, shown by running it (lecture --help)\n\n"
          "A software x86-64 machine whose processor has Intel VT-x.\n",
          out);
    for (unsigned g = 0; g < GROUP_HIDDEN; g++) {
        fprintf(out, "\n%s:\n", option_groups[g]);
        for (unsigned i = 0; i < option_rows_n; i++) {
            char left[96];
            const struct option_row *r = &option_rows[i];
            if (r->group != g || !r->help) continue;
            option_text(left, sizeof left, r);
            entry(out, left, r->help, LEFT);
        }
    }
    fputs("\nQEMU's options mean what they mean there. Taken without effect, for they could not change "
          "anything:\n",
          out);
    absent_names(out, true, "-", put_wrapped);
    fputs("Not there yet, and refused (where one can ask for none, that is taken):\n", out);
    absent_names(out, false, "-", put_wrapped);
    fputs("\nOn a terminal the serial line is raw:\n", out);
    for (unsigned i = 0; i < key_rows_n; i++) entry(out, key_rows[i].name, key_rows[i].help, LEFT);
    fputs("\nexit status:\n", out);
    for (unsigned i = 0; i < status_rows_n; i++) entry(out, status_rows[i].name, status_rows[i].help, 9);
    fputs("\nexamples:\n"
          "  matryoshka -kernel hypervisor.elf -m 256 -no-reboot -d vmx -D events.log --stats\n"
          "  matryoshka -kernel vmlinuz -initrd initrd.img -append console=ttyS0 -m 1G -nographic\n",
          out);
}

// ---- lists ----

static void print_cpus(FILE *out)
{
    char line[4096] = "";
    size_t n = 0;
    fputs("Models (all give the one processor that is there):\n", out);
    for (unsigned i = 0; cpu_model_name(i); i++) fprintf(out, "  %s\n", cpu_model_name(i));
    fputs("\nFeatures, all on but hypervisor and what this host cannot run; -cpu max,-FEATURE or FEATURE=off "
          "takes one away, +FEATURE or "
          "FEATURE=on adds it:\n",
          out);
    for (unsigned i = 0; cpu_feature_name(i); i++)
        n += (size_t)snprintf(line + n, sizeof line - n, "%s%s", i ? " " : "", cpu_feature_name(i));
    put_wrapped(out, line);
    fputs("\nOther properties:\n  phys-bits=N  width of physical addresses, 32 to 52 (default 40)\n", out);
}

static void print_machines(FILE *out)
{
    fputs("Machines:\n"
          "  pc                a PC with i440FX and PIIX3, as QEMU's (pc-i440fx-VERSION is the same)\n"
          "\nProperties:\n"
          "  accel             NAME, as -accel\n",
          out);
    for (unsigned i = 0; i < machine_rows_n; i++) {
        const struct machine_row *r = &machine_rows[i];
        char text[128];
        snprintf(text, sizeof text, "%s%s", r->accept[0] == '*' ? "taken without effect" : r->accept,
                 r->property == MACHINE_NO_EFFECT ? ""
                 : r->property == MACHINE_USB     ? " (default off)"
                                                  : " (default on)");
        entry(out, r->name, text, 20);
    }
}

static void print_words(FILE *out, const char *head, const struct word_row *row, unsigned n)
{
    fprintf(out, "%s:\n", head);
    for (unsigned i = 0; i < n && row[i].name; i++) entry(out, row[i].name, row[i].help, 16);
}

static void print_devices(FILE *out)
{
    for (unsigned i = 0; i < device_rows_n; i++) {
        const struct device_row *r = device_rows[i];
        if (!r->option)
            fprintf(out, "name \"%s\", bus %s, desc \"%s\"\n", r->name, device_buses[r->bus], r->help);
    }
}

static void each_property(FILE *out, const struct device_row *r,
                          void (*put)(FILE *out, const char *name, const char *text))
{
    char text[512];
    for (unsigned i = 0; r->property[i].type != PROPERTY_END; i++) {
        device_property_text(&r->property[i], text, sizeof text);
        put(out, r->property[i].name, text);
    }
    put(out, "id", "a name");
}

static void put_entry(FILE *out, const char *name, const char *text) { entry(out, name, text, 16); }

static void print_device(FILE *out, const struct device_row *r)
{
    fprintf(out, "%s: %s\nProperties:\n", r->name, r->help);
    each_property(out, r, put_entry);
}

static void print_log_items(FILE *out)
{
    fputs("Items, separated by commas:\n", out);
    for (unsigned i = 0; i < log_rows_n; i++) entry(out, log_rows[i].name, log_rows[i].help, 16);
}

// ---- the manual page ----

// Text as man(7) wants it: '-' of options and files is no hyphen, and no line begins with a control
// character.
static void roff(FILE *out, const char *text)
{
    for (const char *s = text; *s; s++) {
        if (*s == '\\')
            fputs("\\e", out);
        else if (*s == '-')
            fputs("\\-", out);
        else if (*s == '\'')
            fputs("\\(aq", out);
        else if (*s == '.' && s == text)
            fputs("\\&.", out);
        else
            fputc(*s, out);
    }
    fputc('\n', out);
}

static void tagged(FILE *out, const char *tag, const char *text)
{
    fputs(".TP\n.B ", out);
    roff(out, tag);
    roff(out, text);
}

static void tagged_words(FILE *out, const struct word_row *row, unsigned n)
{
    for (unsigned i = 0; i < n && row[i].name; i++) tagged(out, row[i].name, row[i].help);
}

static void print_manual(FILE *out)
{
    fputs(".\\\" Made by matryoshka --man from the table of its options.\n"
          ".TH MATRYOSHKA 1 " MATRYOSHKA_DATE " \"Matryoshka " MATRYOSHKA_VERSION "\" \"User Commands\"\n"
          ".SH NAME\nmatryoshka \\- a software x86\\-64 machine with Intel VT\\-x\n"
          ".SH SYNOPSIS\n.B matryoshka\n.B \\-kernel\n.I FILE\n.RI [ options ]\n.br\n.B matryoshka "
          "vmcs\\-lint\n.RI [ options ]\n.I FILE\n"
          ".SH DESCRIPTION\n",
          out);
    roff(out, "A software x86-64 machine whose processor has Intel VT-x: real hypervisors boot inside it and "
              "run their guests, with no VT-x on the "
              "host. Every VM entry, VM exit and check can be seen and explained, and the same image with "
              "the same input gives the same run, bit for bit.");
    fputs(".PP\n", out);
    roff(out, "The options are QEMU's where both have them, with one dash or two; those that only Matryoshka "
              "has are written with two. A value that "
              "holds a list has commas between its words; a comma within a word is doubled. Of an option "
              "that is given twice the last one counts, but "
              "for -serial, -chardev, -device and -d, which add up.");
    fputs(".SH OPTIONS\n", out);
    for (unsigned g = 0; g < GROUP_HIDDEN; g++) {
        fputs(".SS ", out);
        roff(out, option_groups[g]);
        for (unsigned i = 0; i < option_rows_n; i++) {
            const struct option_row *r = &option_rows[i];
            char tag[96];
            if (r->group != g || !r->help) continue;
            option_text(tag, sizeof tag, r);
            tagged(out, tag, r->help);
        }
    }
    fputs(".SS Lines\n", out);
    roff(out, "What -serial and -debugcon take:");
    tagged_words(out, serial_rows, serial_rows_n);
    fputs(".SS Log items\n", out);
    roff(out, "What -d takes:");
    for (unsigned i = 0; i < log_rows_n; i++) tagged(out, log_rows[i].name, log_rows[i].help);
    fputs(".SS Devices\n", out);
    roff(out, "What -device takes, and the properties of each:");
    for (unsigned i = 0; i < device_rows_n; i++) {
        if (device_rows[i]->option) continue;
        tagged(out, device_rows[i]->name, device_rows[i]->help);
        fputs(".RS\n", out);
        each_property(out, device_rows[i], tagged);
        fputs(".RE\n", out);
    }
    fputs(".SS Other options of QEMU\n", out);
    roff(out, "Taken without effect, for they could not change anything here:");
    absent_names(out, true, "-", roff);
    fputs(".PP\n", out);
    roff(out, "Not there yet, and refused with the reason (where one can ask for none, that is taken):");
    absent_names(out, false, "-", roff);
    fputs(".SH \"MATRYOSHKA VMCS\\-LINT\"\n", out);
    roff(out, "Checks a VMCS in text (field = value, or a dump of Linux's KVM or of Xen) against every rule "
              "of VM entry, without a guest. "
              "--caps FILE takes capability MSRs, --json writes an object; matryoshka vmcs-lint --help lists "
              "the rest. Exit status: 0 the "
              "entry would succeed, 1 rules are violated, 2 usage, 4 a file that cannot be read or "
              "understood, 6 the host refused.");
    fputs(".SH \"MATRYOSHKA LECTURE\"\n", out);
    roff(out, "Small guests that show why x86 needed VT-x: without a number they are listed, with one it is "
              "run, and its "
              "story is told with what happened beside it, or with --debug stops at each scene in the "
              "monitor; words after the number are the program's "
              "parameters. Exit "
              "status: 0 all that it claims was seen, 1 something was not, 2 usage, 3 the machine ended "
              "otherwise, 6 "
              "the host refused.");
    fputs(".SH KEYS\n", out);
    roff(out, "On a terminal the serial line is raw, and Ctrl-C is the guest's.");
    tagged_words(out, key_rows, key_rows_n);
    fputs(".SH \"EXIT STATUS\"\n", out);
    tagged_words(out, status_rows, status_rows_n);
    fputs(".SH EXAMPLES\n", out);
    roff(out, "A hypervisor of your own, and why its VM entry failed:");
    fputs(".PP\n.nf\n.RS\n", out);
    roff(out, "matryoshka -kernel hypervisor.elf -m 256 -no-reboot -d vmx -D events.log --stats");
    fputs(".RE\n.fi\n.PP\n", out);
    roff(out, "Linux on the terminal:");
    fputs(".PP\n.nf\n.RS\n", out);
    roff(out, "matryoshka -kernel vmlinuz -initrd initrd.img -append console=ttyS0 -m 1G -nographic");
    fputs(".RE\n.fi\n"
          ".SH \"SEE ALSO\"\n.BR qemu\\-system\\-x86_64 (1)\n",
          out);
}

bool options_print(const struct options *o, FILE *out)
{
    switch (o->tell) {
    case TELL_NOTHING: break;
    case TELL_HELP: print_help(out); break;
    case TELL_VERSION: fprintf(out, "matryoshka %s\n", MATRYOSHKA_VERSION); break;
    case TELL_MANUAL: print_manual(out); break;
    case TELL_DEVICES: print_devices(out); break;
    case TELL_DEVICE: print_device(out, o->tell_of); break;
    case TELL_CPUS: print_cpus(out); break;
    case TELL_MACHINES: print_machines(out); break;
    case TELL_ACCELERATORS:
        fputs("Accelerators:\n  tcg             taken for the engine that is there\n", out);
        break;
    case TELL_LOG_ITEMS: print_log_items(out); break;
    case TELL_CHARDEVS: print_words(out, "Kinds of lines", chardev_rows, chardev_rows_n); break;
    case TELL_SERIALS: print_words(out, "Lines", serial_rows, serial_rows_n); break;
    case TELL_DISPLAYS: fputs("Displays:\n  none            no window\n", out); break;
    }
    return fflush(out) == 0 && !ferror(out);
}
