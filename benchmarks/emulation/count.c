/* A QEMU 7.2 plugin (API 1) that counts the guest's aarch64 instructions by kind.
 *
 *   gcc -O2 -shared -fPIC -o libcount.so count.c
 *   qemu-aarch64 -plugin libcount.so,out=FILE ...
 *
 * The guest asks for a line in FILE with the system call getpriority(PRIO_PROCESS, MARK + n), which
 * fails and does no harm. A line is "n total loads_stores fmla dot long_multiply". The counters are
 * added to without a lock: the guest must run one thread.
 *
 * The declarations below are the part of qemu-plugin.h that is used; Debian does not ship that file.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*called)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, called);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

#define SHOWN __attribute__((visibility("default")))
#define ADD_U64 0
#define GETPRIORITY 141
#define MARK 1000000

SHOWN int qemu_plugin_version = 1;

/* Bits of an instruction, from the Arm Architecture Reference Manual's tables C4.1: every kind is a
 * list of (mask, value) pairs, and an instruction is of the kind if one of its pairs fits. */
struct pattern {
    uint32_t mask, value;
};
static const struct pattern kinds[][2] = {
    {{0x00000000, 0x00000000}, {0x00000000, 0x00000001}}, /* all; the second pair fits nothing */
    {{0x0a000000, 0x08000000}, {0x00000000, 0x00000001}}, /* loads and stores: op0 = x1x0 */
    {{0xbfa0fc00, 0x0e20cc00}, {0xbf80f400, 0x0f801000}}, /* FMLA, vectors and by element */
    {{0x9f20fc00, 0x0e009400}, {0x9f00f400, 0x0f00e000}}, /* SDOT and UDOT, the same two */
    {{0x9f20bc00, 0x0e208000}, {0x9f007400, 0x0f002000}}, /* [SU]MULL, [SU]MLAL, the same two */
};
#define KINDS (sizeof kinds / sizeof kinds[0])
static uint64_t counts[KINDS];
static FILE *out;

static void on_translated(plugin_id id, struct qemu_plugin_tb *block)
{
    uint64_t here[KINDS] = {0};
    size_t length = qemu_plugin_tb_n_insns(block);
    (void)id;
    for (size_t i = 0; i < length; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        for (size_t k = 0; k < KINDS; k++)
            here[k] += (word & kinds[k][0].mask) == kinds[k][0].value
                    || (word & kinds[k][1].mask) == kinds[k][1].value;
    }
    for (size_t k = 0; k < KINDS; k++)
        if (here[k])
            qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &counts[k], here[k]);
}

static void on_call(plugin_id id, unsigned cpu, int64_t number, uint64_t which, uint64_t who, uint64_t c,
                    uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)which, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != GETPRIORITY || who < MARK)
        return;
    fprintf(out, "%llu", (unsigned long long)(who - MARK));
    for (size_t k = 0; k < KINDS; k++)
        fprintf(out, " %llu", (unsigned long long)counts[k]);
    fputc('\n', out);
    fflush(out);
}

SHOWN int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
    if (!out)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    return 0;
}
