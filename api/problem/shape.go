package problem

import (
	"regexp"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// shapes are what huma finds wrong with a request's shape, by its own messages: it
// gives no codes. What our schemas cannot ask for is not here and keeps huma's words.
var shapes = []struct {
	message *regexp.Regexp
	code    fault.Code
	named   bool // the message says what the sentence has a {name} for
}{
	{template(validation.MsgUnexpectedProperty), fault.KeyUnknown, false},
	{template(validation.MsgExpectedBoolean), fault.NotBool, false},
	{template(validation.MsgExpectedNumber), fault.NotNumber, false},
	{template(validation.MsgExpectedInteger), fault.NotWhole, false},
	{template(validation.MsgExpectedString), fault.NotText, false},
	{template(validation.MsgExpectedArray), fault.NotList, false},
	{template(validation.MsgExpectedObject), fault.NotObject, false},
	{template(validation.MsgExpectedRFC3339DateTime), fault.NotTime, false},
	{template(validation.MsgExpectedOneOf), fault.OneOf, true},
	{template(validation.MsgExpectedMinimumNumber), fault.AtLeast, true},
	{template(validation.MsgExpectedMaximumNumber), fault.AtMost, true},
	{template(validation.MsgExpectedMinLength), fault.CharactersAtLeast, true},
	{template(validation.MsgExpectedMaxLength), fault.CharactersAtMost, true},
	{template(validation.MsgExpectedMaxItems), fault.EntriesAtMost, true},
	{template(validation.MsgExpectedMatchPattern), fault.Matching, true},
	// Of parameters in the address.
	{template("required %s parameter is missing"), fault.Required, false},
	{template("invalid integer"), fault.NotWhole, false},
	{template("invalid float"), fault.NotNumber, false},
	{template("invalid boolean"), fault.NotBool, false},
	{template("invalid date/time for format %s"), fault.NotTime, false},
}

// absent is said of the object around what is absent.
var absent = template(validation.MsgExpectedRequiredProperty)

var verbs = regexp.MustCompile(`%[sdv]`)

// template matches what a format of fmt can become.
func template(format string) *regexp.Regexp {
	return regexp.MustCompile("^" + verbs.ReplaceAllString(regexp.QuoteMeta(format), "(.*)") + "$")
}

// shaped is what huma found wrong, as a sentence that can be said in another language.
func shaped(d *huma.ErrorDetail) Wrong {
	if m := absent.FindStringSubmatch(d.Message); m != nil {
		// The object around it, which huma gives as the value, is not its value.
		return said(Wrong{Location: d.Location + "." + m[1]}, fault.Say(fault.Required))
	}
	w := Wrong{Location: d.Location, Message: d.Message, Value: printable(d.Value)}
	for _, s := range shapes {
		m := s.message.FindStringSubmatch(d.Message)
		switch {
		case m == nil:
			continue
		case s.code == fault.KeyUnknown:
			w.Value = nil // the object around it, too
			return said(w, fault.Say(s.code))
		case s.named:
			return said(w, fault.Say(s.code, m[1]))
		}
		return said(w, fault.Say(s.code))
	}
	return w
}

func said(w Wrong, r fault.Reason) Wrong {
	w.Message, w.Reason, w.Params = r.Text, Reason(r.Code), r.Params
	return w
}
