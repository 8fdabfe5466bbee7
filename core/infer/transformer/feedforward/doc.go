// Package feedforward holds the operations that look at one row alone between two matrices or more: gated and
// plain networks (GLU, MLP), and mixtures of experts with their routers (Experts).
package feedforward
