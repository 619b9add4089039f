/* replay.c - runs a fuzz harness over saved inputs, for builds without libFuzzer.
 *
 * Every argument is a file or a folder, read with all below it in the order of the names; hidden
 * files are left out. The empty input comes first. A corpus that does not exist yet is no failure.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX ((size_t)64 * 1024 * 1024) /* a larger file is no fuzz input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t n_replayed_in(const char *path);

static void die(const char *what, const char *path)
{
    (void)fprintf(stderr, "replay: cannot %s %s\n", what, path);
    exit(1);
}

static size_t replay_file(const char *path, size_t size)
{
    if (size > INPUT_BYTES_MAX) {
        die("take a file as large as", path);
    }
    /* Exactly the input's size, so that a read past the end is seen by the sanitizer. */
    uint8_t *data = malloc(size == 0 ? 1 : size);
    FILE *f = fopen(path, "rb");
    if (f == NULL || data == NULL || fread(data, 1, size, f) != size) {
        die("read", path);
    }
    (void)fclose(f);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

static size_t replay_folder(const char *path)
{
    struct dirent **names = NULL;
    int n = scandir(path, &names, NULL, alphasort);
    if (n < 0) {
        die("list", path);
    }
    size_t n_replayed = 0;
    for (int i = 0; i < n; i++) {
        char inner[4096];
        int len = snprintf(inner, sizeof(inner), "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && len > 0 && (size_t)len < sizeof(inner)) {
            n_replayed += n_replayed_in(inner);
        }
        free(names[i]);
    }
    free(names);
    return n_replayed;
}

static size_t n_replayed_in(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return 0;
    }
    return S_ISDIR(st.st_mode) ? replay_folder(path) : replay_file(path, (size_t)st.st_size);
}

int main(int argc, char **argv)
{
    static const uint8_t nothing[1];
    (void)LLVMFuzzerTestOneInput(nothing, 0);
    size_t n_replayed = 1;
    for (int i = 1; i < argc; i++) {
        n_replayed += n_replayed_in(argv[i]);
    }
    (void)printf("%zu inputs replayed\n", n_replayed);
    return 0;
}
