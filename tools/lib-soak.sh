# shellcheck shell=bash disable=SC2034  # what is unused here is used by who sources this
# The words in which a scenario of tools/soak is set up. To be sourced after lib-guests.sh.

expect() { EXPECT+=("$@"); }   # each TEXT must come in a line of the serial console
refuse() { REFUSE+=("$@"); }   # a line that matches one of these means failure
options() { OPTIONS+=("$@"); } # of the machine
endless() { STOP=1; }          # the guest does not end by itself: end it when all that is expected was seen
ends_with() { STATUS=$1; }     # the machine's exit status, where that is not 0
