#ifndef AGENT_CLI_RUN_H
#define AGENT_CLI_RUN_H

/*
 * The command line from its words to its exit status: options, settings, log,
 * policy, the verb, and what it has to say. agent(8).
 */
int run_cli(int argc, char **argv);

#endif
