package machine

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestResident(t *testing.T) {
	dir := t.TempDir()
	write(t, "1000 20 3 4 0 5 0\n", dir, "proc", "7", "statm")
	write(t, "1000 30 3 4 0 5 0\n", dir, "proc", "8", "statm")
	write(t, "rubbish", dir, "proc", "9", "statm")
	if got, want := resident(dir, 7, 8, 9, 10, 0, -1), int64(50*os.Getpagesize()); got != want {
		t.Errorf("resident = %d, want %d", got, want)
	}
	if runtime.GOOS == "linux" && Resident(os.Getpid()) == 0 {
		t.Error("this process has no memory")
	}
}

func TestTemperature(t *testing.T) {
	dir := t.TempDir()
	if _, ok := temperature(dir); ok {
		t.Error("a machine without zones has a temperature")
	}
	write(t, "999999999\n", dir, thermalDir, "thermal_zone0", "temp")
	write(t, "30000\n", dir, thermalDir, "thermal_zone1", "temp")
	write(t, "gpu\n", dir, thermalDir, "thermal_zone1", "type")
	if c, ok := temperature(dir); !ok || c != 30 {
		t.Errorf("%v, %v", c, ok)
	}
	write(t, "51540\n", dir, thermalDir, "thermal_zone2", "temp")
	write(t, "cpu-thermal\n", dir, thermalDir, "thermal_zone2", "type")
	if c, ok := temperature(dir); !ok || c != 51.54 {
		t.Errorf("%v, %v", c, ok)
	}
}

func TestPower(t *testing.T) {
	const firmware = "sys/devices/platform/soc/soc:firmware/get_throttled"
	for name, test := range map[string]struct {
		files map[string]string
		want  Power
		known bool
	}{
		"a machine that does not tell": {nil, Power{}, false},
		"rubbish":                      {map[string]string{firmware: "x"}, Power{}, false},
		"all is well":                  {map[string]string{firmware: "0\n"}, Power{}, true},
		"it was once":                  {map[string]string{firmware: "50000\n"}, Power{}, true},
		"it is now":                    {map[string]string{firmware: "0x50005"}, Power{UnderVoltage: true, Throttled: true}, true},
		"heat":                         {map[string]string{firmware: "e000e"}, Power{FrequencyCapped: true, Throttled: true, SoftLimit: true}, true},
		"another place":                {map[string]string{"sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "2"}, Power{FrequencyCapped: true}, true},
		"voltage alarm": {map[string]string{
			"sys/class/hwmon/hwmon0/name": "cpu_thermal\n", "sys/class/hwmon/hwmon0/in0_lcrit_alarm": "1\n",
			"sys/class/hwmon/hwmon1/name": "rpi_volt\n", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
		}, Power{}, true},
		"voltage alarm rings": {map[string]string{
			"sys/class/hwmon/hwmon1/name": "rpi_volt\n", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n",
		}, Power{UnderVoltage: true}, true},
		"the kernel cools": {map[string]string{
			"sys/class/thermal/cooling_device0/type": "pwm-fan\n", "sys/class/thermal/cooling_device0/cur_state": "3\n",
			"sys/class/thermal/cooling_device1/type": "cpufreq-cpu0\n", "sys/class/thermal/cooling_device1/cur_state": "2\n",
		}, Power{FrequencyCapped: true}, true},
		"the kernel need not": {map[string]string{
			"sys/class/thermal/cooling_device1/type": "thermal-cpufreq-0\n", "sys/class/thermal/cooling_device1/cur_state": "0\n",
		}, Power{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				write(t, text, dir, file)
			}
			if got, known := ReadPower(dir); got != test.want || known != test.known {
				t.Errorf("got %+v, %v; want %+v, %v", got, known, test.want, test.known)
			}
		})
	}
	if got := (Power{UnderVoltage: true, SoftLimit: true}).Reasons(); strings.Join(got, " ") != "under_voltage soft_temperature_limit" {
		t.Errorf("got %v", got)
	}
}
