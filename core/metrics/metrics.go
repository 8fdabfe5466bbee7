// Package metrics reads figures of the machine and of processes from the kernel's files: memory, CPU temperature, and
// what the firmware of a Raspberry Pi says of its power supply.
//
// It must not know what the figures are for. Every function may be called concurrently; a figure that a machine does not
// have is absent, never an error.
package metrics

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxFile bounds what is read of one of the kernel's files.
const maxFile = 4096

// Files of Linux; functions take the root so that tests can bring their own.
const (
	root       = "/"
	thermalDir = "sys/class/thermal"
	throttled  = "sys/devices/platform/soc/soc:firmware/get_throttled"
)

// Resident returns the resident memory of processes together, in bytes; those that are gone count nothing.
func Resident(pids ...int) int64 { return resident(root, pids...) }

func resident(root string, pids ...int) int64 {
	var sum int64
	for _, pid := range pids {
		if pid <= 0 {
			continue
		}
		fields := strings.Fields(read(root, "proc", strconv.Itoa(pid), "statm"))
		if len(fields) < 2 {
			continue
		}
		if pages, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			sum += pages * int64(os.Getpagesize())
		}
	}
	return sum
}

// Temperature returns the temperature of the processor in degrees Celsius.
func Temperature() (float64, bool) { return temperature(root) }

func temperature(root string) (float64, bool) {
	zones, err := filepath.Glob(filepath.Join(root, thermalDir, "thermal_zone*"))
	if err != nil {
		return 0, false
	}
	found := false
	var first float64
	for _, z := range zones {
		milli, err := strconv.ParseFloat(read(z, "temp"), 64)
		if err != nil || milli < -50_000 || milli > 200_000 {
			continue
		}
		// The processor's zone, by the names that Linux gives it on ARM boards and on PCs; else the first one.
		switch read(z, "type") {
		case "cpu-thermal", "cpu_thermal", "x86_pkg_temp", "soc-thermal":
			return milli / 1000, true
		}
		if !found {
			first, found = milli/1000, true
		}
	}
	return first, found
}

// Throttled reports whether the firmware of a Raspberry Pi holds the clock down now, for heat or for want of voltage.
func Throttled() (bool, bool) { return isThrottled(root) }

// Bits of get_throttled (Raspberry Pi documentation, vcgencmd): 0 under-voltage, 1 frequency capped, 2 throttled, 3 soft
// temperature limit. The same 16 bits higher tell of the time since boot.
const throttledNow = 0xf

func isThrottled(root string) (throttledNowSet, known bool) {
	text := read(root, throttled)
	bits, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 32)
	if err != nil {
		return false, false
	}
	return bits&throttledNow != 0, true
}

// read returns the text of one of the kernel's files, "" where there is none.
func read(path ...string) string {
	f, err := os.Open(filepath.Join(path...))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it was only read
	b := make([]byte, maxFile)
	n, _ := f.Read(b) // what cannot be read is absent
	return string(bytes.TrimSpace(b[:n]))
}
