#include <string.h>

void set_name(char *src) {
  char buf[16];
  strcpy(buf, src);
}
