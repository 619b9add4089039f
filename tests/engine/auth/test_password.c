/* test_password.c - bcrypt against hashes that Go's implementation made (golang.org/x/crypto/bcrypt
 * 0.31). */
#include "auth_fixture.h"
#include "engine/auth_password.h"

/* Among them byte sequences that broken implementations of bcrypt confuse. */
static const struct {
    const char *password, *hash;
} from_go[] = {
    {"", "$2a$04$PwuBY3obUAKYoBtz7fYXzuac/.DgEyb3lKVcfvaKR2hNVnouJm0zi"},
    {"a", "$2a$04$uxxeiuUWfEJNOoFOCAuKweCDtct63WLLoeMBrxrdhltw0NaQ8w9UO"},
    {"pintle", "$2a$04$/iPCLHBgFBk8iXuYSCa31euHi8m2kyaSJ09uvU9s0.LtXwDLo7.kW"},
    {"\xff\xa3"
     "345",
     "$2a$04$vvBibmw76eWTw0QECNAN8OegRYt3onnTzSwpgrDcQOOUnyvhiO2jW"},
    {"\xff\xff\xa3", "$2a$04$3MxTMhXBKLXdarU/iYdS9.MHryDtF.gby6TLuduEQrOVQfipgMRV."},
    {"0123456789012345678901234567890123456789012345678901234567890123456789ab",
     "$2a$04$0NJ9JMpPKHXCcc17bZj1Que/CyTdtyosxq41SauZH86M5WT4joIbW"},
    {"U*U*U", "$2a$04$tvtJ.unCaf/HgPmq6Wsv8O3.33fBeIxbtTpFnCIPNTfVvLVrlr0Va"},
    {"\xa3"
     "ab\xff\xff",
     "$2a$04$TaGkLKgzP3HOQe0ut73q8.xaffsqnKsBe5JJwQ.tCm1nEgzrV0QE."},
};

static void test_verifies_what_go_made(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(from_go); i++) {
        for (size_t k = 0; k < ARRAY_LEN(from_go); k++) {
            assert_int_equal(password_verify(from_go[i].password, from_go[k].hash), i == k);
        }
    }
    /* Behind 72 bytes nothing counts, when comparing. */
    assert_true(password_verify(
        "0123456789012345678901234567890123456789012345678901234567890123456789ab and more",
        from_go[5].hash));
}

static void test_other_letters(void **state)
{
    (void)state;
    char hash[PASSWORD_TEXT_BYTES];
    for (const char *c = "abxyz1$"; *c != 0; c++) { /* Go looks at the letter only to repeat it */
        memcpy(hash, from_go[4].hash, sizeof(hash));
        hash[2] = *c;
        assert_int_equal(password_verify(from_go[4].password, hash), strchr("abxy", *c) != NULL);
    }
}

static void test_no_hash_at_all(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "*",
        "x",
        "$2a$04$",
        "$2a$04$uxxeiuUWfEJNOoFOCAuKweCDtct63WLLoeMBrxrdhltw0NaQ8w9U",
        "$2a$04$uxxeiuUWfEJNOoFOCAuKweCDtct63WLLoeMBrxrdhltw0NaQ8w9UOO",
        "$2a$03$uxxeiuUWfEJNOoFOCAuKweCDtct63WLLoeMBrxrdhltw0NaQ8w9UO",
        "$2a$99$uxxeiuUWfEJNOoFOCAuKweCDtct63WLLoeMBrxrdhltw0NaQ8w9UO",
        "$2a$4x$uxxeiuUWfEJNOoFOCAuKweCDtct63WLLoeMBrxrdhltw0NaQ8w9UO",
        "$2a$04$uxxeiuUWfEJNOoFOCAuKwe!Dtct63WLLoeMBrxrdhltw0NaQ8w9UO",
        "$6$04$uxxeiuUWfEJNOoFOCAuKwe!Dtct63WLLoeMBrxrdhltw0NaQ8w9UOaa",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_false(password_verify("a", rows[i]));
        assert_false(password_verify("", rows[i]));
    }
}

static void test_hashes(void **state)
{
    (void)state;
    uint8_t salt[PASSWORD_SALT_BYTES];
    char out[PASSWORD_TEXT_BYTES];
    for (size_t i = 0; i < sizeof(salt); i++) {
        salt[i] = (uint8_t)(i * 17u + 3u);
    }
    /* The text was given to Go's CompareHashAndPassword, which accepted it. */
    assert_int_equal(password_hash("pintle", 4, salt, out), OK);
    assert_string_equal(out, "$2a$04$.vOjLibWYVoJlI08x8Bv.eCBxYHAzYY09wvZdpUWs6DZY44hqwcXa");
    for (size_t i = 0; i < ARRAY_LEN(from_go); i++) {
        salt[0]++;
        assert_int_equal(password_hash(from_go[i].password, 4, salt, out), OK);
        assert_memory_equal(out, "$2a$04$", 7);
        assert_true(password_verify(from_go[i].password, out));
        assert_false(password_verify("other", out));
    }
    assert_int_equal(password_hash("", 10, salt, out), OK);
    assert_memory_equal(out, "$2a$10$", 7);
    assert_true(password_verify("", out));
}

static void test_limits(void **state)
{
    (void)state;
    const uint8_t salt[PASSWORD_SALT_BYTES] = {0};
    char out[PASSWORD_TEXT_BYTES];
    char password[PASSWORD_BYTES_MAX + 2];
    memset(password, 'p', sizeof(password));
    password[PASSWORD_BYTES_MAX + 1] = 0;
    assert_int_equal(password_hash(password, 4, salt, out), ERR_PASSWORD_LENGTH);
    password[PASSWORD_BYTES_MAX] = 0;
    assert_int_equal(password_hash(password, 4, salt, out), OK);
    assert_int_equal(password_hash("p", 3, salt, out), ERR_INVALID);
    assert_int_equal(password_hash("p", 32, salt, out), ERR_INVALID);
    password_wipe(password, sizeof(password));
    for (size_t i = 0; i < sizeof(password); i++) {
        assert_int_equal(password[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verifies_what_go_made),
        cmocka_unit_test(test_other_letters),
        cmocka_unit_test(test_no_hash_at_all),
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
