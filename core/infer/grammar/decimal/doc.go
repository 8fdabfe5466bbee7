// Package decimal makes expressions of decimal numbers between two bounds, digit by digit, as they are
// written without an exponent. It is exact: no number outside of the bounds is among the texts. It knows
// neither JSON nor schemas.
package decimal
