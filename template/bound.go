package template

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// CEL counts the work of an expression and ends it at a limit, but there are
// things that it counts too low or too late: comparing is one step, however deep
// the values are, and so is a list, however long. These functions stand where
// they are counted right; nobody can write them, because of the @.
const (
	// weighed returns its argument, counts all that is in it, and refuses to count
	// beyond the limit: lists that hold another twice, again and again, are as many
	// as the grains on a chessboard.
	weighed = "@weighed"
	// built returns a list or map and counts what it holds itself.
	built = "@built"
	// inOrder returns the keys of a map in their order. Go walks maps in any order,
	// and the attempts of one event must not differ.
	inOrder = "@inOrder"
)

// smallLiteral is how many entries of a list or map are in its price.
const smallLiteral = 8

// bound puts those functions into an expression.
func bound(a *ast.AST) (fault error) {
	b := &binder{ast: a, factory: ast.NewExprFactory(), last: ast.MaxID(a)}
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.CallKind:
			b.call(e)
		case ast.ListKind:
			if list := e.AsList(); list.Size() > smallLiteral {
				inner := b.factory.NewList(b.id(e), list.Elements(), list.OptionalIndices())
				e.SetKindCase(b.factory.NewCall(e.ID(), built, inner))
			}
		case ast.MapKind:
			if m := e.AsMap(); m.Size() > smallLiteral {
				inner := b.factory.NewMap(b.id(e), m.Entries())
				e.SetKindCase(b.factory.NewCall(e.ID(), built, inner))
			}
		case ast.ComprehensionKind:
			c := e.AsComprehension()
			e.SetKindCase(b.factory.NewComprehension(e.ID(), b.wrap(inOrder, c.IterRange()),
				c.IterVar(), c.AccuVar(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()))
		case ast.StructKind:
			fault = errNoMessages
		default:
		}
	}))
	return fault
}

type binder struct {
	ast     *ast.AST
	factory ast.ExprFactory
	last    int64
}

// call weighs one side of a comparison, which takes no longer than that side is
// large, and the list in which something is looked for.
func (b *binder) call(e ast.Expr) {
	call := e.AsCall()
	side := 0
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals:
	case operators.In:
		side = 1
	default:
		return
	}
	args := append([]ast.Expr{}, call.Args()...)
	if call.IsMemberFunction() || len(args) != 2 {
		return
	}
	args[side] = b.wrap(weighed, args[side])
	e.SetKindCase(b.factory.NewCall(e.ID(), call.FunctionName(), args...))
}

func (b *binder) wrap(function string, e ast.Expr) ast.Expr {
	return b.factory.NewCall(b.id(e), function, e)
}

// id is a new one that stands where e does in the text.
func (b *binder) id(e ast.Expr) int64 {
	b.last++
	if at, ok := b.ast.SourceInfo().GetOffsetRange(e.ID()); ok {
		b.ast.SourceInfo().SetOffsetRange(b.last, at)
	}
	return b.last
}
