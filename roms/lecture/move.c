/* A guest's processor as data: the guest-state area, read field by field, and what goes with it. */
#include "lecture.h"

/* Controls without which the guest's state would not be legal, or means something else. */
static const uint32_t settings[] = {VM_ENTRY_CONTROLS, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
                                    EXCEPTION_BITMAP};

/* Encodings are (width << 13) | (2 << 10, guest state) | (index << 1): what cannot be read is not there. */
void vt_save(struct vt_saved *s)
{
    s->n = 0;
    s->regs = vt_vcpu.regs;
    for (unsigned i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        s->field[s->n].encoding = settings[i], s->field[s->n++].value = vmread(settings[i]);
    for (uint32_t width = 0; width < 4; width++)
        for (uint32_t i = 0; i < 32 && s->n < VT_SAVED_MAX; i++) {
            uint32_t encoding = width << 13 | 2 << 10 | i << 1;
            uint64_t value = 0;
            if (vmread_status(encoding, &value) != VMX_SUCCEED) continue;
            s->field[s->n].encoding = encoding;
            s->field[s->n++].value = value;
        }
}

/* Another VMCS, of another region; the old one may be cleared or not. */
void vt_load(const struct vt_saved *s)
{
    vt_vcpu.vmcs = 0;
    vt_prepare();
    for (unsigned i = 0; i < s->n; i++) vmwrite(s->field[i].encoding, s->field[i].value);
    vt_vcpu.regs = s->regs;
}
