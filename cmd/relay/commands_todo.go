package main

type explainCommand struct{}
