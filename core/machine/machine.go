// Package machine reads figures of the machine and of processes from the kernel's files: memory, CPU temperature, and
// whether heat or a weak power supply hold the clock down.
//
// It must not know what the figures are for. Every function may be called concurrently; a figure that a
// machine does not have is absent, never an error.
package machine

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
	hwmonDir   = "sys/class/hwmon"
	platform   = "sys/devices/platform"
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

// Power says what holds the clock of the processor down at this moment.
type Power struct {
	UnderVoltage    bool // the supply gives too little: a weak charger or a thin cable
	FrequencyCapped bool // the clock may not go as high as it could
	Throttled       bool // the firmware holds the clock down
	SoftLimit       bool // the soft temperature limit of a Pi 3 B+ (60 °C by default)
}

// Any reports whether anything holds the clock down.
func (p Power) Any() bool { return p != Power{} }

// Reasons names what is set, in the words of the MQTT API.
func (p Power) Reasons() []string {
	var out []string
	for _, r := range []struct {
		set  bool
		name string
	}{
		{p.UnderVoltage, "under_voltage"},
		{p.FrequencyCapped, "frequency_capped"},
		{p.Throttled, "throttled"},
		{p.SoftLimit, "soft_temperature_limit"},
	} {
		if r.set {
			out = append(out, r.name)
		}
	}
	return out
}

// CPUPower returns what holds the clock down now; false where this machine does not tell.
func CPUPower() (Power, bool) { return ReadPower(root) }

// Limited reports whether anything is known to hold the clock down now.
func Limited() bool {
	p, _ := CPUPower()
	return p.Any()
}

// ReadPower is CPUPower below another root, for tests. It reads what there is of
//
//   - the firmware's flags on a Raspberry Pi, which the kernel of Raspberry Pi OS passes on as get_throttled: the same word, in
//     hexadecimal, as `vcgencmd get_throttled`. Bits 0 to 3 are under-voltage, frequency capped, throttled and soft temperature
//     limit; the same bits 16 higher say that it was so since boot;
//   - the alarm of the driver raspberrypi-hwmon (in0_lcrit_alarm of rpi_volt), which every recent kernel has on a Pi;
//   - the cooling devices with which the kernel itself slows a processor down, on boards of any make.
func ReadPower(root string) (p Power, known bool) {
	for _, pattern := range []string{"soc/soc:firmware", "soc*/*firmware", "*firmware"} {
		files, err := filepath.Glob(filepath.Join(root, platform, pattern, "get_throttled"))
		if err != nil || len(files) == 0 {
			continue
		}
		if bits, err := strconv.ParseUint(strings.TrimPrefix(read(files[0]), "0x"), 16, 32); err == nil {
			p = Power{UnderVoltage: bits&1 != 0, FrequencyCapped: bits&2 != 0, Throttled: bits&4 != 0, SoftLimit: bits&8 != 0}
			known = true
		}
		break
	}
	for _, dir := range glob(root, hwmonDir, "hwmon*") {
		if read(dir, "name") != "rpi_volt" {
			continue
		}
		switch read(dir, "in0_lcrit_alarm") {
		case "1":
			p.UnderVoltage, known = true, true
		case "0":
			known = true
		}
	}
	for _, dir := range glob(root, thermalDir, "cooling_device*") {
		// Named after the driver: cpufreq-cpu0 since Linux 5.12, thermal-cpufreq-0 before.
		if kind := read(dir, "type"); !strings.HasPrefix(kind, "cpufreq-") && !strings.HasPrefix(kind, "thermal-cpufreq-") {
			continue
		}
		if state, err := strconv.Atoi(read(dir, "cur_state")); err == nil && state >= 0 {
			p.FrequencyCapped, known = p.FrequencyCapped || state > 0, true
		}
	}
	return p, known
}

// glob lists the folders of a class; none where there is none.
func glob(path ...string) []string {
	list, err := filepath.Glob(filepath.Join(path...))
	if err != nil {
		return nil
	}
	return list
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
