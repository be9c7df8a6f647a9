package main

type (
	runCommand     struct{}
	devCommand     struct{}
	initCommand    struct{}
	migrateCommand struct{}
	sendCommand    struct{}
	explainCommand struct{}
	replayCommand  struct{}
	doctorCommand  struct{}
)
