/* librte_acl beside nodeplane: one process that holds the rules and does, line by line, what it is told on its standard
 * input, so that both can be timed in turns.
 *
 *   acl RULES VERSION CORE [MIB]      RULES: records of fastpath.rules.pack in the order in which they win
 *
 * It says {"build": seconds, "memory": bytes, "methods": [names]} or {"error": text}, and then obeys
 *   load FILE                         keys of fastpath.rules; {"headers": number}
 *   answers METHOD FILE               positions of the rules that win go to FILE as int32, -1 for none; {}
 *   time METHOD BATCH SECONDS         the headers over and over; {"ns": of the median pass a header}
 * The headers are put into the library's order (network) when they are loaded, which is not timed. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_acl.h>
#include <rte_byteorder.h>
#include <rte_eal.h>

struct record {
    uint8_t address[2][16];
    uint32_t priority;
    uint16_t port[2][2], zone;
    uint8_t length[2], versions, direction, protocol, protocol_counts, rest[4];
} __attribute__((packed));

/* A header is a word with the protocol in its first octet, the addresses, and a word with the ports. */
enum { MOST_FIELDS = 11, PASSES = 4096 };
RTE_ACL_RULE_DEF(rule, MOST_FIELDS);

static const struct {
    enum rte_acl_classify_alg number;
    const char *name;
} METHODS[] = {
    {RTE_ACL_CLASSIFY_SCALAR, "scalar"},       {RTE_ACL_CLASSIFY_SSE, "sse"},
    {RTE_ACL_CLASSIFY_AVX2, "avx2"},           {RTE_ACL_CLASSIFY_AVX512X16, "avx512x16"},
    {RTE_ACL_CLASSIFY_AVX512X32, "avx512x32"},
};

static struct rte_acl_ctx *context;
static struct rte_acl_field_def fields[MOST_FIELDS];
static int words, count;
static uint32_t *headers;
static const uint8_t **data;
static uint32_t *results, loaded;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static long resident(void) {
    long size, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &size, &pages) != 2) pages = 0;
    if (file) fclose(file);
    return pages * 4096;
}

static int fail(const char *what) {
    printf("{\"error\": \"%s\"}\n", what);
    fflush(stdout);
    return 1;
}

static uint8_t *slurp(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    if (!file) return NULL;
    if (!fseek(file, 0, SEEK_END) && (*size = (size_t)ftell(file)) && !fseek(file, 0, SEEK_SET) &&
        (bytes = malloc(*size)) && fread(bytes, 1, *size, file) != *size) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    return bytes;
}

static void define(void) {
    fields[0] = (struct rte_acl_field_def){RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, 0, 0};
    for (int i = 0; i < 2 * words; i++)
        fields[1 + i] = (struct rte_acl_field_def){RTE_ACL_FIELD_TYPE_MASK, 4, (uint8_t)(1 + i), (uint8_t)(1 + i),
                                                   (uint32_t)(4 + 4 * i)};
    for (int i = 0; i < 2; i++)
        fields[1 + 2 * words + i] =
            (struct rte_acl_field_def){RTE_ACL_FIELD_TYPE_RANGE, 2, (uint8_t)(1 + 2 * words + i),
                                       (uint8_t)(1 + 2 * words), (uint32_t)(4 + 8 * words + 2 * i)};
    count = 3 + 2 * words;
}

static int build(const char *path, size_t most) {
    size_t size = 0, n;
    struct record *record = (struct record *)slurp(path, &size);
    if (!record) return fail("no rules");
    n = size / sizeof *record;
    struct rule *rules = calloc(n, sizeof *rules);
    if (!rules) return fail("no memory");
    for (size_t k = 0; k < n; k++) {
        struct rule *r = &rules[k];
        r->data.category_mask = 1;
        r->data.priority = (int32_t)(RTE_ACL_MAX_PRIORITY - k);
        r->data.userdata = (uint32_t)k + 1;
        r->field[0].value.u8 = record[k].protocol_counts ? record[k].protocol : 0;
        r->field[0].mask_range.u8 = record[k].protocol_counts ? 0xFF : 0;
        for (int side = 0; side < 2; side++) {
            for (int w = 0; w < words; w++) {
                uint32_t word;
                int bits = record[k].length[side] - 32 * w, at = 1 + side * words + w;
                memcpy(&word, record[k].address[side] + 4 * w, 4);
                r->field[at].value.u32 = rte_be_to_cpu_32(word);
                r->field[at].mask_range.u32 = bits <= 0 ? 0 : bits >= 32 ? 32 : (uint32_t)bits;
            }
            r->field[1 + 2 * words + side].value.u16 = record[k].port[side][0];
            r->field[1 + 2 * words + side].mask_range.u16 = record[k].port[side][1];
        }
    }
    struct rte_acl_param parameters = {"bench", SOCKET_ID_ANY, RTE_ACL_RULE_SZ(MOST_FIELDS), (uint32_t)n};
    struct rte_acl_config config;
    memset(&config, 0, sizeof config);
    config.num_categories = 1;
    config.num_fields = (uint32_t)count;
    config.max_size = most;
    memcpy(config.defs, fields, sizeof *fields * (size_t)count);
    long before = resident();
    double began = now();
    if (!(context = rte_acl_create(&parameters))) return fail("rte_acl_create");
    if (rte_acl_add_rules(context, (struct rte_acl_rule *)rules, (uint32_t)n)) return fail("rte_acl_add_rules");
    if (rte_acl_build(context, &config)) return fail("rte_acl_build");
    printf("{\"build\": %.6f, \"memory\": %ld, \"methods\": [", now() - began, resident() - before);
    const char *comma = "";
    for (size_t m = 0; m < sizeof METHODS / sizeof *METHODS; m++)
        if (!rte_acl_set_ctx_classify(context, METHODS[m].number)) {
            printf("%s\"%s\"", comma, METHODS[m].name);
            comma = ", ";
        }
    puts("]}");
    fflush(stdout);
    free(rules);
    free(record);
    return 0;
}

static int load(const char *path) {
    size_t size = 0, record = words == 1 ? 16 : 64, header = 2 + 2 * (size_t)words;
    uint8_t *keys = slurp(path, &size);
    free(headers);
    free(data);
    free(results);
    loaded = keys ? (uint32_t)(size / record) : 0;
    headers = calloc(loaded + 1, 4 * header);
    data = calloc(loaded + 1, sizeof *data);
    results = calloc(loaded + 1, sizeof *results);
    if (!keys || !headers || !data || !results) return fail("load");
    for (uint32_t i = 0; i < loaded; i++) {
        uint32_t word[8], *at = headers + header * i;
        uint16_t rest[3];
        memcpy(word, keys + record * i, 8 * (size_t)words);
        memcpy(rest, keys + record * i + 8 * words, 6);
        for (int side = 0; side < 2; side++) rest[side] = rte_cpu_to_be_16(rest[side]);
        *(uint8_t *)at = (uint8_t)(rest[2] >> 1);
        for (int w = 0; w < 2 * words; w++) at[1 + w] = rte_cpu_to_be_32(word[w]);
        memcpy(at + 1 + 2 * words, rest, 4);
        data[i] = (const uint8_t *)at;
    }
    free(keys);
    printf("{\"headers\": %u}\n", loaded);
    return 0;
}

static int choose(const char *name) {
    for (size_t m = 0; m < sizeof METHODS / sizeof *METHODS; m++)
        if (!strcmp(METHODS[m].name, name)) return rte_acl_set_ctx_classify(context, METHODS[m].number);
    return -1;
}

static void pass(uint32_t batch) {
    for (uint32_t i = 0; i < loaded; i += batch)
        rte_acl_classify(context, data + i, results + i, loaded - i < batch ? loaded - i : batch, 1);
}

static int answers(const char *path) {
    FILE *file = fopen(path, "wb");
    if (!file) return fail("answers");
    pass(256);
    for (uint32_t i = 0; i < loaded; i++) {
        int32_t position = (int32_t)results[i] - 1;
        if (fwrite(&position, 4, 1, file) != 1) return fail("answers");
    }
    if (fclose(file)) return fail("answers");
    puts("{}");
    return 0;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void timed(uint32_t batch, double seconds) {
    static double took[PASSES];
    int n = 0;
    double ends = now() + seconds;
    do {
        double began = now();
        pass(batch);
        took[n++] = now() - began;
    } while (n < PASSES && now() < ends);
    qsort(took, (size_t)n, sizeof *took, ascending);
    printf("{\"ns\": %.4f}\n", took[n / 2] * 1e9 / loaded);
}

int main(int argc, char **argv) {
    if (argc < 4) return fail("acl RULES VERSION CORE [MIB]");
    const char *options[] = {"acl", "--no-huge", "--no-pci", "-m", "8192", "-l", argv[3], "--log-level=4", "--no-telemetry",
                             "--no-shconf", "--force-max-simd-bitwidth=512", NULL};
    char line[4096], name[32], path[4000];
    unsigned batch;
    double seconds;
    if (rte_eal_init(11, (char **)options) < 0) return fail("rte_eal_init");
    words = atoi(argv[2]) == 6 ? 4 : 1;
    define();
    if (build(argv[1], argc > 4 ? strtoull(argv[4], NULL, 10) << 20 : 0)) return 1;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "load %3999s", path) == 1) load(path);
        else if (sscanf(line, "answers %31s %3999s", name, path) == 2 && !choose(name)) answers(path);
        else if (sscanf(line, "time %31s %u %lf", name, &batch, &seconds) == 3 && !choose(name) && batch) timed(batch, seconds);
        else fail("what?");
        fflush(stdout);
    }
    return 0;
}
