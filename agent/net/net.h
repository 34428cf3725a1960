#ifndef AGENT_NET_NET_H
#define AGENT_NET_NET_H

/*
 * The net role: speak to the keeper on descriptor `sock` until it hangs up.
 * Everything that the role needs is handed over and set up first; then the
 * sandbox closes, then READY, and only then the first byte of the network is
 * read. Returns the process's exit status.
 */
int net_main(int sock);

#endif
