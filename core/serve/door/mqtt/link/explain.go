package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Explain says in plain words why there is no connection, and what to do. err stays wrapped.
func (s Settings) Explain(err error) error {
	if err == nil {
		return nil
	}
	where := s.where()
	if why := s.reason(err); why != "" {
		return &explained{fmt.Sprintf("mqtt: broker %s: %s", where, why), err}
	}
	return fmt.Errorf("mqtt: broker %s: %w", where, err)
}

// ExplainEnd is Explain for a connection that was good and has ended: a broker that closes it then was
// stopped, restarted or killed far more often than it wants another protocol.
func (s Settings) ExplainEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) {
		return &explained{fmt.Sprintf("mqtt: broker %s: it closed the connection: was it stopped or restarted?", s.where()), err}
	}
	return s.Explain(err)
}

// where is the broker's URL for messages: with its port, and without a user.
func (s Settings) where() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		return s.URL
	}
	u.User = nil
	u.Host = withPort(u)
	return u.String()
}

// explained is an error with a sentence of its own.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

func (s Settings) reason(err error) string {
	if why := s.connack(err); why != "" {
		return why
	}
	if why := certificate(err); why != "" {
		return why
	}
	var dns *net.DNSError
	var op *net.OpError
	var pe *os.PathError
	switch {
	case errors.Is(err, errOldBroker):
		return "it does not speak MQTT 5: set mqtt.version to \"auto\" or \"3.1.1\""
	case errors.Is(err, context.DeadlineExceeded):
		return "it does not answer in time"
	case errors.As(err, &pe):
		return "" // a file of the configuration; it names itself
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s cannot be resolved", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: is the broker running, and is the port right?"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to that machine: is the network up?"
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return "it does not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return s.closed()
	case strings.Contains(err.Error(), "websocket: bad handshake"):
		return "it refused the WebSocket: is the path in mqtt.broker right?"
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return ""
}

// closed guesses why a broker closed the connection without a word. With TLS 1.3 its word about a client
// certificate may be lost, since it closes while CONNECT is on its way.
func (s Settings) closed() string {
	switch {
	case !strings.HasPrefix(s.URL, "tls:") && !strings.HasPrefix(s.URL, "wss:"):
		return "it closed the connection: does that port want TLS, or another protocol, or is a limit of the broker reached?"
	case s.CertFile == "":
		return "it closed the connection: does it ask for a client certificate (mqtt.cert_file, mqtt.key_file), or is a limit of the broker reached?"
	default:
		return "it closed the connection: does it refuse the client certificate in mqtt.cert_file, or is a limit of the broker reached?"
	}
}

// connack explains a refusal by CONNACK.
func (s Settings) connack(err error) string {
	if five, ok := errors.AsType[*ReasonError](err); ok {
		if five.Packet == "PUBACK" {
			return "it does not take a message: reason " + fmt.Sprintf("0x%02X, %s", five.Code, reasonName(five.Code))
		}
		why := s.reason5(five.Code)
		if five.Text != "" {
			why += " (it says: " + oneLine(five.Text) + ")"
		}
		return why
	}
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		if s.Username == "" {
			return "it wants a user name and a password: set mqtt.username and mqtt.password_file"
		}
		return fmt.Sprintf("it refuses the user %q: check mqtt.username, the password file, and the broker's access list", s.Username)
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return "it refuses the client id: check node.name, and the broker's rules for client ids"
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return "it says that it is unavailable"
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return "it does not speak MQTT 3.1.1"
	}
	return ""
}

// reason5 explains a reason code with which a broker of MQTT 5 refuses or ends a connection.
func (s Settings) reason5(code byte) string {
	switch code {
	case ReasonPassword, ReasonUnauthorized:
		return s.connack(packets.ErrorRefusedNotAuthorised)
	case ReasonClientID:
		return s.connack(packets.ErrorRefusedIDRejected)
	case ReasonVersion:
		return "it does not speak MQTT 5: set mqtt.version to \"auto\" or \"3.1.1\""
	case ReasonTakenOver:
		return "another client uses the same client id, such as a second node of this name"
	case ReasonShuttingDown, ReasonUnavailable:
		return "it shuts down, or is unavailable"
	case ReasonPacketLarge:
		return "it ended the connection over a packet that is larger than it takes"
	case ReasonRetain:
		return "it keeps no retained messages, which edged needs for its availability and status"
	case ReasonQoS:
		return "it takes no messages of QoS 1, which edged needs"
	case ReasonBanned, ReasonAdministrator:
		return "its administrator has banned this client or ended its connection"
	}
	return fmt.Sprintf("it gives reason 0x%02X, %s", code, reasonName(code))
}

// oneLine shortens what a broker says, and takes control characters out of it: it goes into a log.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// certificate explains what is wrong between two sides of TLS.
func certificate(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return "its certificate is signed by an authority that is not trusted here: set mqtt.ca_file to the authority's certificate"
	case errors.As(err, &host):
		names := append([]string(nil), host.Certificate.DNSNames...)
		for _, ip := range host.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return fmt.Sprintf("its certificate names no host at all, and mqtt.broker says %q", host.Host)
		}
		return fmt.Sprintf("its certificate is for %s, and mqtt.broker says %q", strings.Join(names, ", "), host.Host)
	case errors.As(err, &invalid):
		if invalid.Reason == x509.Expired {
			return fmt.Sprintf("its certificate is valid from %s to %s: renew it, or set this machine's clock",
				invalid.Cert.NotBefore.Format("2006-01-02"), invalid.Cert.NotAfter.Format("2006-01-02"))
		}
		return "its certificate cannot be used: " + invalid.Error()
	case errors.As(err, &record):
		return "it does not speak TLS on this port: use tcp:// (or ws://), or its TLS port"
	}
	// crypto/tls keeps the type of a received alert to itself.
	text := err.Error()
	_, alert, ok := strings.Cut(text, "remote error: tls: ")
	switch {
	case !ok:
		return ""
	case strings.Contains(alert, "certificate required"), strings.Contains(alert, "handshake failure"):
		return "it asks for a client certificate: set mqtt.cert_file and mqtt.key_file"
	case strings.Contains(alert, "certificate"):
		return "it refuses the client certificate (" + alert + "): check mqtt.cert_file"
	case strings.Contains(alert, "protocol version"):
		return "it does not speak TLS 1.2 or newer"
	}
	return "it ended TLS: " + alert
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
