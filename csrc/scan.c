/*
 * pfsd._scan: what clients send, read in one pass whatever it says.
 *
 * match_name(program, name) -> bool                       whether a component of a glob matches a name
 * scan_json(state, data, start) -> (begin, end, whole)    where a JSON text of RFC 8259 ends in a stream
 *
 * A match takes time that grows with the program times the name, a scan with the data; both release the interpreter
 * lock where they may take long. Malformed input raises ValueError. No function keeps state between calls: that of a
 * JSON scan is in a bytearray of JSON_STATE_BYTES zeros, which belongs to the caller.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* ---- globs ---------------------------------------------------------------------------------------------- */

/*
 * A program is 32-bit words in native order: a character as it is, or an operation:
 *
 *     OP_ANY                                any character
 *     OP_STAR                               any characters
 *     OP_CLASS, count, count * (low, high)  a character in one of the ranges
 *     OP_NOT, count, count * (low, high)    a character in none
 */
enum {
    OP_ANY = 0x110000, /* the first number that is no character */
    OP_STAR,
    OP_CLASS,
    OP_NOT,
    LONG_MATCH = 1 << 14, /* words times characters from which on the interpreter lock is released */
};

/* How many words the operation at `at` takes; 0 where the program is malformed. */
static Py_ssize_t op_words(const uint32_t *program, Py_ssize_t count, Py_ssize_t at)
{
    if (program[at] <= OP_STAR)
        return 1;
    if (program[at] > OP_NOT || count - at < 2)
        return 0;
    Py_ssize_t ranges = (Py_ssize_t)program[at + 1];
    return ranges <= (count - at - 2) / 2 ? 2 + 2 * ranges : 0;
}

static bool op_matches(const uint32_t *op, Py_UCS4 character)
{
    if (*op < OP_ANY)
        return *op == character;
    if (*op == OP_ANY)
        return true;
    bool found = false;
    for (uint32_t i = 0; i < op[1] && !found; i++)
        found = op[2 + 2 * i] <= character && character <= op[3 + 2 * i];
    return found == (*op == OP_CLASS);
}

/* Whether the program, which is well formed, matches all of the name. What is behind a star is sought where it can
 * begin first; where it does not match there, one character further on. No former star is ever tried again: what is
 * before the last one matches already, and the last one takes whatever comes. */
static bool match_all(const uint32_t *program, Py_ssize_t words, int kind, const void *name, Py_ssize_t length)
{
    Py_ssize_t at = 0, i = 0, star = -1, star_i = 0;
    while (i < length) {
        if (at < words && program[at] == OP_STAR) {
            star = ++at;
            star_i = i;
            if (star == words)
                return true;
        } else if (at < words && op_matches(program + at, PyUnicode_READ(kind, name, i))) {
            at += op_words(program, words, at);
            i++;
        } else if (star >= 0) {
            at = star;
            i = ++star_i;
        } else {
            return false;
        }
    }
    while (at < words && program[at] == OP_STAR)
        at++;
    return at == words;
}

static bool well_formed(const uint32_t *program, Py_ssize_t words)
{
    Py_ssize_t at = 0;
    while (at < words) {
        Py_ssize_t size = op_words(program, words, at);
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}

PyDoc_STRVAR(match_name_doc,
"match_name(program, name, /)\n--\n\n"
"Whether a compiled component of a glob matches all of a name; raises ValueError for a malformed program.");

static PyObject *match_name(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *code, *name;
    if (!PyArg_ParseTuple(args, "O!O!:match_name", &PyBytes_Type, &code, &PyUnicode_Type, &name))
        return NULL;
    Py_ssize_t words = PyBytes_GET_SIZE(code) / (Py_ssize_t)sizeof(uint32_t);
    const uint32_t *program = (const uint32_t *)(const void *)PyBytes_AS_STRING(code);
    if (PyBytes_GET_SIZE(code) % (Py_ssize_t)sizeof(uint32_t) || !well_formed(program, words)) {
        PyErr_SetString(PyExc_ValueError, "a pattern's program is malformed");
        return NULL;
    }
    int kind = PyUnicode_KIND(name);
    const void *data = PyUnicode_DATA(name);
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    bool matched;
    if (length && words > LONG_MATCH / length) {
        Py_BEGIN_ALLOW_THREADS /* both objects are immutable, and the arguments hold them */
        matched = match_all(program, words, kind, data, length);
        Py_END_ALLOW_THREADS
    } else {
        matched = match_all(program, words, kind, data, length);
    }
    return PyBool_FromLong(matched);
}

/* ---- JSON ----------------------------------------------------------------------------------------------- */

enum {
    JSON_MAX_DEPTH = 1 << 16,
    LONG_SCAN = 1 << 12, /* bytes from which on the interpreter lock is released */
};

enum mode {
    BETWEEN, /* values, at the top */
    FIRST_ELEMENT, /* or the end of the array */
    ELEMENT,
    FIRST_KEY, /* or the end of the object */
    KEY,
    COLON,
    MEMBER, /* the value behind a colon */
    AFTER, /* a value in an array or object */
    STRING,
    ESCAPE,
    HEX,
    CONTINUATION, /* of a character in UTF-8 */
    LITERAL,
    MINUS,
    ZERO,
    INTEGER,
    POINT,
    FRACTION,
    EXPONENT,
    EXPONENT_SIGN,
    EXPONENT_DIGITS,
    LITERAL_END, /* of one at the top: what follows may not be part of a word */
    MODES,
};

/* All zero at the beginning of a stream. */
struct json_state {
    uint8_t mode;
    uint8_t is_key; /* of a string */
    uint8_t left; /* hex digits or continuation bytes that have to come */
    uint8_t low, high; /* what the next continuation byte lies between */
    uint8_t literal, literal_at; /* which of LITERALS, and how much of it has come */
    uint8_t unused;
    uint32_t depth;
    uint8_t is_object[JSON_MAX_DEPTH / 8]; /* a bit for each array or object that is open */
};

static const char *const LITERALS[] = {"true", "false", "null"};
enum { LITERAL_COUNT = sizeof LITERALS / sizeof *LITERALS };

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool state_is_sound(const struct json_state *state)
{
    return state->mode < MODES && state->depth <= JSON_MAX_DEPTH && state->literal < LITERAL_COUNT &&
           (state->mode != LITERAL || state->literal_at < strlen(LITERALS[state->literal]));
}

static const char *open_container(struct json_state *state, bool is_object)
{
    if (state->depth == JSON_MAX_DEPTH)
        return "it is nested more deeply";
    uint8_t bit = (uint8_t)(1 << state->depth % 8);
    uint8_t *byte = &state->is_object[state->depth / 8];
    *byte = is_object ? *byte | bit : *byte & (uint8_t)~bit;
    state->depth++;
    state->mode = is_object ? FIRST_KEY : FIRST_ELEMENT;
    return NULL;
}

static bool in_object(const struct json_state *state)
{
    uint32_t at = state->depth - 1;
    return state->depth && state->is_object[at / 8] >> at % 8 & 1;
}

static void end_value(struct json_state *state)
{
    state->mode = state->depth ? AFTER : BETWEEN;
}

static const char *close_container(struct json_state *state, bool is_object)
{
    if (!state->depth || in_object(state) != is_object)
        return "a bracket closes what was not opened";
    state->depth--;
    end_value(state);
    return NULL;
}

static const char *begin_string(struct json_state *state, bool is_key)
{
    state->mode = STRING;
    state->is_key = is_key;
    return NULL;
}

static const char *begin_value(struct json_state *state, uint8_t c)
{
    switch (c) {
    case '{':
        return open_container(state, true);
    case '[':
        return open_container(state, false);
    case '"':
        return begin_string(state, false);
    case '-':
        state->mode = MINUS;
        return NULL;
    case '0':
        state->mode = ZERO;
        return NULL;
    }
    if (is_digit(c)) {
        state->mode = INTEGER;
        return NULL;
    }
    for (uint8_t i = 0; i < LITERAL_COUNT; i++)
        if (c == (uint8_t)LITERALS[i][0]) {
            state->mode = LITERAL;
            state->literal = i;
            state->literal_at = 1;
            return NULL;
        }
    return "no value begins so";
}

/* The first byte of a character that is not ASCII (Unicode 15, table 3-7). */
static const char *begin_character(struct json_state *state, uint8_t c)
{
    state->mode = CONTINUATION;
    state->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    state->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    state->left = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    return c >= 0xc2 && c <= 0xf4 ? NULL : "a string is not UTF-8";
}

static const char *take_in_string(struct json_state *state, uint8_t c)
{
    switch (state->mode) {
    case STRING:
        if (c == '"') {
            if (state->is_key)
                state->mode = COLON;
            else
                end_value(state);
        } else if (c == '\\') {
            state->mode = ESCAPE;
        } else if (c < 0x20) {
            return "a string holds a control character";
        } else if (c >= 0x80) {
            return begin_character(state, c);
        }
        return NULL;
    case ESCAPE:
        state->mode = c == 'u' ? HEX : STRING;
        state->left = 4;
        return c && strchr("\"\\/bfnrtu", c) ? NULL : "a string holds an unknown escape";
    case HEX:
        if (!is_digit(c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'f'))
            return "a string holds an unknown escape";
        break;
    default:
        if (c < state->low || c > state->high)
            return "a string is not UTF-8";
        state->low = 0x80;
        state->high = 0xbf;
        break;
    }
    if (--state->left == 0)
        state->mode = STRING;
    return NULL;
}

/* Takes a byte of a number, or the one behind a literal at the top. Where the number ended before it, *used is false and the value is at its end. */
static const char *take_in_number(struct json_state *state, uint8_t c, bool *used)
{
    uint8_t mode = state->mode;
    if (is_digit(c) && mode != ZERO && mode != LITERAL_END) {
        state->mode = mode == MINUS ? (c == '0' ? ZERO : INTEGER)
                      : mode == INTEGER ? INTEGER
                      : mode == POINT || mode == FRACTION ? FRACTION : EXPONENT_DIGITS;
        return NULL;
    }
    if (c == '.' && (mode == ZERO || mode == INTEGER)) {
        state->mode = POINT;
        return NULL;
    }
    if ((c == 'e' || c == 'E') && (mode == ZERO || mode == INTEGER || mode == FRACTION)) {
        state->mode = EXPONENT;
        return NULL;
    }
    if ((c == '+' || c == '-') && mode == EXPONENT) {
        state->mode = EXPONENT_SIGN;
        return NULL;
    }
    if (mode == MINUS || mode == POINT || mode == EXPONENT || mode == EXPONENT_SIGN)
        return "a number lacks digits";
    /* at the top nothing has to stand between two values, but `01` and `1true` are none */
    if (!state->depth && !is_space(c) && c != '"' && c != '[' && c != '{')
        return "white space is missing between two values";
    *used = false;
    end_value(state);
    return NULL;
}

/* Takes a byte that is not in a string, number or literal, nor white space. */
static const char *take_structure(struct json_state *state, uint8_t c)
{
    switch (state->mode) {
    case FIRST_KEY:
    case KEY:
        if (c == '}' && state->mode == FIRST_KEY)
            return close_container(state, true);
        return c == '"' ? begin_string(state, true) : "an object needs a name here";
    case COLON:
        state->mode = MEMBER;
        return c == ':' ? NULL : "a name needs a colon behind it";
    case AFTER:
        if (c == ',') {
            state->mode = in_object(state) ? KEY : ELEMENT;
            return NULL;
        }
        if (c == ']' || c == '}')
            return close_container(state, c == '}');
        return "a comma or a bracket is missing";
    case FIRST_ELEMENT:
        if (c == ']')
            return close_container(state, false);
        break;
    }
    return begin_value(state, c);
}

static const char *take(struct json_state *state, uint8_t c, bool *used)
{
    if (state->mode >= STRING && state->mode <= CONTINUATION)
        return take_in_string(state, c);
    if (state->mode == LITERAL) {
        const char *text = LITERALS[state->literal];
        if (c != (uint8_t)text[state->literal_at])
            return "no value begins so";
        if (!text[++state->literal_at])
            state->mode = state->depth ? AFTER : LITERAL_END;
        return NULL;
    }
    if (state->mode >= MINUS)
        return take_in_number(state, c, used);
    return is_space(c) ? NULL : take_structure(state, c);
}

/* Scans from *at to the end of a value or of the data, and moves *at there; what is wrong, or NULL. */
static const char *scan(struct json_state *state, const uint8_t *data, size_t size, size_t *at, bool *whole)
{
    *whole = false;
    while (*at < size) {
        if (state->mode == STRING) { /* most bytes of most texts */
            while (*at < size && data[*at] >= 0x20 && data[*at] < 0x80 && data[*at] != '"' && data[*at] != '\\')
                ++*at;
            if (*at == size)
                break;
        }
        bool used = true;
        const char *wrong = take(state, data[*at], &used);
        if (wrong)
            return wrong;
        *at += used;
        if (state->mode == BETWEEN) {
            *whole = true;
            break;
        }
    }
    return NULL;
}

PyDoc_STRVAR(scan_json_doc,
"scan_json(state, data, start, /)\n--\n\n"
"Go on with a stream of JSON texts from start to the end of a text, or of the data: where it begins and ends in the\n"
"data, without the white space around it, and whether it is whole.\n\n"
"A number or literal at the top is whole once something follows it. Strings have to be UTF-8; escapes may be half of a surrogate\n"
"pair. Raises ValueError(what is wrong, where in the data) for what is not JSON.");

static PyObject *scan_json(PyObject *Py_UNUSED(self), PyObject *args)
{
    Py_buffer memory, data;
    Py_ssize_t start;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "w*y*n:scan_json", &memory, &data, &start))
        return NULL;
    struct json_state *state = memory.buf;
    if (memory.len != (Py_ssize_t)sizeof *state || (uintptr_t)memory.buf % _Alignof(struct json_state) ||
        !state_is_sound(state) || start < 0 || start > data.len) {
        PyErr_SetString(PyExc_ValueError, "the state or the start of a scan is wrong");
        goto done;
    }
    const uint8_t *bytes = data.buf;
    size_t size = (size_t)data.len, at = (size_t)start;
    if (state->mode == BETWEEN)
        while (at < size && is_space(bytes[at]))
            at++;
    size_t begin = at;
    bool whole;
    const char *wrong;
    if (size - at >= LONG_SCAN) {
        Py_BEGIN_ALLOW_THREADS /* the buffers keep the memory where it is */
        wrong = scan(state, bytes, size, &at, &whole);
        Py_END_ALLOW_THREADS
    } else {
        wrong = scan(state, bytes, size, &at, &whole);
    }
    if (wrong) {
        PyObject *error = Py_BuildValue("sn", wrong, (Py_ssize_t)at);
        if (error)
            PyErr_SetObject(PyExc_ValueError, error);
        Py_XDECREF(error);
        goto done;
    }
    result = Py_BuildValue("nnO", (Py_ssize_t)begin, (Py_ssize_t)at, whole ? Py_True : Py_False);
done:
    PyBuffer_Release(&data);
    PyBuffer_Release(&memory);
    return result;
}

/* ---- module -------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"match_name", match_name, METH_VARARGS, match_name_doc},
    {"scan_json", scan_json, METH_VARARGS, scan_json_doc},
    {NULL, NULL, 0, NULL},
};

static int exec_module(PyObject *module)
{
    return PyModule_AddIntConstant(module, "ANY", OP_ANY) < 0 || PyModule_AddIntConstant(module, "STAR", OP_STAR) < 0 ||
           PyModule_AddIntConstant(module, "CLASS", OP_CLASS) < 0 || PyModule_AddIntConstant(module, "NOT", OP_NOT) < 0 ||
           PyModule_AddIntConstant(module, "JSON_MAX_DEPTH", JSON_MAX_DEPTH) < 0 ||
           PyModule_AddIntConstant(module, "JSON_STATE_BYTES", (long)sizeof(struct json_state)) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pfsd._scan",
    .m_doc = "What clients send, read in one pass, in C.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__scan(void)
{
    return PyModuleDef_Init(&definition);
}
